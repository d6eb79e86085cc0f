"""A broker or a registry that goes silent: asked anew in bounded time, and nothing is there twice for it."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace

import pytest

from cdc.errors import Retry
from cdc.model.record import Message, Record
from cdc.runtime import timing
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.kafka.reader import KafkaReader
from cdc.transport.kafka.schemas_topic import topic_registry
from cdc.transport.kafka.writer import KafkaWriter
from cdc.transport.schema_registry import HttpRegistry
from tests.crash.proxy import DOWN, Line, Proxy
from tests.helpers.servers import Broker


class BrokerProxy(Proxy):
    """Has the broker name the proxy as its address."""

    def _weathered(self, line: Line, way: str, data: bytes) -> bytes:
        here, there = (b"127.0.0.1" + struct.pack(">i", port) for port in (self.port, self._upstream()))
        return super()._weathered(line, way, data.replace(there, here) if way == DOWN else data)


@pytest.fixture
def proxy(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokerProxy]:
    monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, call_seconds=1.0, ask_seconds=0.3))
    found = BrokerProxy(lambda: int(kafka.bootstrap.rpartition(":")[2]))
    yield found
    found.close()


def arrived(reader: KafkaReader, count: int) -> list[Message]:
    found: list[Message] = []
    until = time.monotonic() + 10
    while len(found) < count and time.monotonic() < until:
        found += [message for message in reader.poll(0.1) if message.topic != reader.control_topic]
    return found


def test_a_broker_that_swallows_is_asked_on_a_new_connection_and_has_each_record_once(
    kafka: Broker, proxy: BrokerProxy, monkeypatch: pytest.MonkeyPatch
):
    broker = KafkaBroker(f"127.0.0.1:{proxy.port}", kafka.prefix, {}, answer_seconds=1)
    registry, topic = topic_registry(broker), f"{kafka.prefix}.d.t"
    with closing(KafkaWriter(broker, registry)) as writer, closing(KafkaReader(broker, registry)) as reader:
        writer.prepare(topic)
        reader.assign({(topic, 0): 0}, 0)
        writer.send(topic, [Record(0, b"k", b"0")])
        writer.flush()
        assert [b"0"] == [message.value for message in arrived(reader, 1)]
        proxy.hush(DOWN)  # what is sent arrives, and nobody hears of it
        began = time.monotonic()
        writer.send(topic, [Record(0, b"k", b"1")])
        assert {(topic, 0): 1} == writer.flush()
        assert time.monotonic() - began < 8
        assert [b"1"] == [message.value for message in arrived(reader, 1)]
        monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, poll_silence_seconds=0.5))
        proxy.swallow()
        writer.send(topic, [Record(0, b"k", b"2")])
        for wait in (writer.flush, lambda: arrived(reader, 1), lambda: writer.append_control("k", {"type": "cut"})):
            began = time.monotonic()
            with pytest.raises(Retry) as lost:
                wait()
            assert time.monotonic() - began < 6
            assert "broker_unreachable" == lost.value.code
        assert ("publish", True) == (writer.waits.stage, writer.waits.since > 0)
        proxy.close()  # else the clients would say goodbye to one who does not hear


@pytest.mark.parametrize("drop", [b"", b" "])
def test_a_registry_that_says_nothing_or_drips_is_given_up_as_a_whole(drop: bytes):
    """Each byte begins a socket's time-out anew."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        over = threading.Event()

        def serve() -> None:
            line, _ = door.accept()
            with line, suppress(OSError):
                line.recv(1 << 16)
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" if drop else b"")
                while not over.wait(0.05):
                    line.sendall(drop)

        server = threading.Thread(target=serve)
        server.start()
        began = time.monotonic()
        with pytest.raises(Retry) as lost:
            HttpRegistry(f"http://127.0.0.1:{door.getsockname()[1]}", 0.5).check()
        assert 0.4 < time.monotonic() - began < 2
        assert ("registry_unreachable", "TimeoutError") == (lost.value.code, lost.value.rule)
        over.set()
        server.join()
