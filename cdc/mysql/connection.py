"""The one place that opens a connection to the source, and that turns the driver's errors into decisions."""

from __future__ import annotations

import codecs
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql import converters, err
from pymysql.connections import Connection

from cdc.codec.select_list import quoted
from cdc.config.load import SourceConfig
from cdc.errors import CdcError, Halt, Refused, Retry, own_words
from cdc.runtime import clock, timing

_REFUSING_LOGIN = frozenset(
    {1044, 1045, 1130, 1251, 1275, 1396, 1524, 1698, 1820, 1862, 2049, 2054, 2059, 3118, 3159, 4151}
)
"""Wrong user, password, host, plug-in; locked or expired account; TLS demanded by the server (3159)."""
_REFUSING_STATEMENT = frozenset({1044, 1142, 1143, 1227, 1370, 3530})
"""A privilege is missing."""
_NO_PRIVILEGE = (1044, 1142, 1143, 1227, 1401)
"""The same for a question: its first words may be told."""
_NO_SUCH_TABLE = (1049, 1146)
_LOST = frozenset(
    {
        0,
        1040,
        1053,
        1077,
        1078,
        1079,
        1152,
        1158,
        1159,
        1160,
        1161,
        1184,
        1203,
        1205,
        1213,
        1226,
        1317,
        1927,
        1969,
        2002,
        2003,
        2006,
        2013,
        2055,
        3024,
        3168,
        4031,
    }
)
"""The connection broke, the server is stopping or busy, or somebody killed the query:
the same statement may succeed later."""

_SERVER_TEXT = "cdc_server_text"


def _server_text(raw: Any, errors: str = "", /) -> tuple[str, int]:
    """UTF-8 as servers send it of themselves: a default, a setting or an error may hold any bytes, and those that are
    no text are shown as \\xff, never as another character and never as an exception that names nothing."""
    return codecs.utf_8_decode(raw, "backslashreplace", True)


_CODEC = codecs.CodecInfo(codecs.utf_8_encode, _server_text, name=_SERVER_TEXT)
codecs.register(lambda name: _CODEC if name == _SERVER_TEXT else None)
SESSION = (
    "SET autocommit = 1, time_zone = '+00:00', sql_mode = '', sql_select_limit = 18446744073709551615, "
    "sql_big_selects = 1, "
    "completion_type = 'NO_CHAIN' /*M! , max_statement_time = 0 */ /*!80014 , max_execution_time = 0 */ "
    "/*!80030 , show_gipk_in_create_table_and_information_schema = ON */",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",  # else WITH CONSISTENT SNAPSHOT is a word without effect
)
"""What a server may preset and a copy must not have: an answer that ends early, a snapshot that moves, a key that is
not listed.

Each flavour passes over the other's comments.
"""


def connect(source: SourceConfig, *, read_timeout: float | None = None, raw: bool = False) -> Connection[Any]:
    """A session on the source that is as `SESSION` says, whatever the server presets; raises Refused or Retry, never a
    driver's error.

    `raw`: text arrives in each column's own character set and every value as the bytes that the server sent.
    """
    place = f"{source.url.host}:{source.url.port}"
    try:
        connection = _open(source, read_timeout, raw)
    except err.MySQLError as error:
        raise _login_decision(error, place) from None
    except (RuntimeError, ValueError) as error:  # the driver's own: a missing crypto library, a time-out out of range
        raise Refused("source_auth", place, f"the driver refused to connect: {type(error).__name__}") from None
    if source.ssl_mode not in ("disabled", "preferred") and not isinstance(socket_of(connection), ssl.SSLSocket):
        raise Refused(
            "source_tls", place, "the server offers no TLS, source.ssl_mode demands it"
        )  # older drivers only fall back
    with deciding(place), connection.cursor() as cursor:
        for sql in SESSION:
            cursor.execute(sql)
        if raw:
            cursor.execute("SET character_set_results = NULL")
    return connection


def socket_of(connection: Connection[Any]) -> socket.socket:
    """The connection's socket, for the readers that take packets off it in large pieces."""
    found: socket.socket = connection._sock  # type: ignore[attr-defined]
    return found


def _open(source: SourceConfig, read_timeout: float | None, raw: bool) -> Connection[Any]:
    url = source.url
    only_encoders: Any = converters.encoders  # no decoders: every value stays the bytes it came as
    connection = pymysql.connect(
        host=url.host,
        port=url.port or 3306,
        user=url.user.encode(),
        password=(url.password or "").encode(),
        charset="utf8mb4",
        connect_timeout=source.connect_timeout_seconds,
        read_timeout=source.connect_timeout_seconds,  # a server that hangs still accepts connections
        write_timeout=timing.TIMES.source_write_seconds,
        program_name="cdc",
        ssl=_tls(source),
        ssl_disabled=source.ssl_mode == "disabled",
        use_unicode=not raw,
        conv=only_encoders if raw else None,
        autocommit=None,
    )
    connection._read_timeout = read_timeout  # type: ignore[attr-defined]  # statements may take longer than a greeting
    connection.encoding = _SERVER_TEXT  # of every answer's text and every column's name
    return connection


def _tls(source: SourceConfig) -> ssl.SSLContext | None:
    """The context for a TLS that must happen; None leaves it to what the server offers ("preferred") or forbids it."""
    if source.ssl_mode in ("disabled", "preferred"):
        return None
    try:
        context = ssl.create_default_context(cafile=source.ssl_ca or None)
        if source.ssl_cert:
            context.load_cert_chain(source.ssl_cert, source.ssl_key or None)
    except (OSError, ssl.SSLError) as error:
        raise Refused(
            "source_tls",
            "source.ssl_ca, ssl_cert, ssl_key",
            f"cannot be read: {type(error).__name__}",
            "give paths of PEM files that this process may read",
        ) from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the servers' self-made certificates lack key usage extensions
    context.check_hostname = source.ssl_mode == "verify_identity"
    context.verify_mode = ssl.CERT_NONE if source.ssl_mode == "required" else ssl.CERT_REQUIRED
    return context


def errno(error: BaseException) -> int:
    """The server's or the client's error number; 0 when there is none."""
    number = error.args[0] if error.args else 0
    return number if isinstance(number, int) else 0


def _login_decision(error: err.MySQLError, place: str) -> CdcError:
    number, said = errno(error), own_words(error.args[1]) if error.args[1:] else type(error).__name__
    cause = getattr(error, "original_exception", None)
    broken_off = isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if number == 2026 or (isinstance(cause, ssl.SSLError) and not broken_off):
        return Refused(
            "source_tls",
            place,
            f"no TLS connection by source.ssl_mode: {getattr(cause, 'reason', None) or 'not offered'}",
            "give source.ssl_ca the authority that signed the server's certificate, or choose another ssl_mode",
        )
    if number in _REFUSING_LOGIN:
        return Refused(
            "source_auth",
            place,
            f"the server refuses this account: {said} (error {number})",
            "check user and password in source.url, and the host the account may come from",
        )
    return Retry(
        "source_unreachable",
        place,
        f"cannot connect: {said} (error {number})",
        "is the server up, and source.url right?",
    )


def decision(error: BaseException, place: str) -> CdcError:
    """What a failed statement on an open connection means; the server's text is left out, it may carry values."""
    number = errno(error)
    if number in _REFUSING_STATEMENT:
        return Refused(
            "source_privilege", place, f"the account lacks a privilege (error {number})", "cdc doctor prints the GRANT"
        )
    if number in _LOST or isinstance(error, OSError | err.InterfaceError):
        return Retry("source_lost", place, f"the connection was lost or the statement was ended (error {number})")
    return Halt("source_statement", place, f"the server rejects a statement (error {number})")


@contextmanager
def deciding(place: str) -> Iterator[None]:
    """Run statements; a driver's error comes out as a decision."""
    try:
        yield
    except (err.MySQLError, OSError) as error:
        raise decision(error, place) from None


class Session:
    """A connection that asks the source: rows out, and an error as a decision. Not for use by several threads."""

    def __init__(self, source: SourceConfig, read_timeout: float = timing.TIMES.source_silence_seconds) -> None:
        self.place = f"{source.url.host}:{source.url.port}"
        self._connection = connect(source, read_timeout=read_timeout)

    def close(self) -> None:
        """End the connection; a second time does nothing."""
        if self._connection.open:
            self._connection.close()

    def execute(self, sql: str) -> None:
        """Run a statement that returns nothing."""
        with deciding(self.place), self._connection.cursor() as cursor:
            cursor.execute(sql)

    def all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Every row of an answer; Refused where a privilege is missing."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                return list(cursor.fetchall())
        except (err.MySQLError, OSError) as error:
            if errno(error) in _NO_PRIVILEGE:
                raise Refused(
                    "source_privilege", self.place, f"the account may not run {sql.split()[0]} {sql.split()[1]}"
                ) from None
            raise decision(error, self.place) from None

    def one(self, sql: str, *values: object) -> Any:
        """The first column of the first row."""
        return self.all(sql, *values)[0][0]

    def lacks(self, db: str, table: str) -> bool:
        """Whether the server says that there is no such table; it says something else where one may not be seen."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"SELECT 1 FROM {quoted(db)}.{quoted(table)} LIMIT 0")
        except (err.MySQLError, OSError) as error:
            failure = decision(error, self.place)
            if isinstance(failure, Retry):
                raise failure from None
            return errno(error) in _NO_SUCH_TABLE
        return False


def clock_offset_us(connection: Connection[Any], place: str) -> int:
    """Microseconds that the source's clock is ahead of ours, from the quickest of three questions."""
    tries = []
    with deciding(place), connection.cursor() as cursor:
        for _ in range(3):
            asked = clock.now_us()
            cursor.execute("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)")
            theirs, answered = int(cursor.fetchone()[0]), clock.now_us()
            tries.append((answered - asked, theirs - (asked + answered) // 2))
    return min(tries)[1]


def measured_offset_us(source: SourceConfig) -> int:
    """The same over a connection of its own; Refused or Retry where none is to be had."""
    connection = connect(source, read_timeout=source.connect_timeout_seconds)
    try:
        return clock_offset_us(connection, f"{source.url.host}:{source.url.port}")
    finally:
        connection.close()
