"""A cable between client and server that can be cut at a chosen byte string, in either direction."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Cable:
    """Forwards to a server; `cut_request` and `cut_reply` are the bytes at whose first sight the connection ends.

    The request that holds the bytes is not delivered; the reply that holds them neither, but its request was.
    """

    def __init__(self, host: str, port: int) -> None:
        self.server = (host, port)
        self.cut_request = self.cut_reply = b""
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self.server)
                self._open += [client, server]
                for pair, request in (((client, server), True), ((server, client), False)):
                    threading.Thread(target=self._forward, args=(*pair, request), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, request: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                mark = self.cut_request if request else self.cut_reply
                if mark and mark in data:
                    self.cuts += 1
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cable(host: str, port: int) -> Iterator[Cable]:
    made = Cable(host, port)
    try:
        yield made
    finally:
        made.close()
