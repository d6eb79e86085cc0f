"""The kinds of values in a configuration: URLs, patterns, names and addresses, each with its rule."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator

VARIABLE = re.compile(r"\$\{([^{}]*)\}")
SECRET_WORDS = ("password", "secret", "token", "pem", "passphrase", "userinfo", "user.info", "sasl.jaas")

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?(?P<fragment>#.*)?\Z",
    re.DOTALL,
)
_HOST_PORT = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]*))(?::(?P<port>.*))?\Z")
_DEFAULT_PORTS = {"mysql": 3306, "mariadb": 3306, "postgresql": 5432, "postgres": 5432}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_GUARDED = frozenset({  # librdkafka settings that carry a guarantee: changing one would lose or repeat records
    "bootstrap.servers", "metadata.broker.list", "acks", "request.required.acks", "enable.idempotence",
    "enable.gapless.guarantee", "message.timeout.ms", "delivery.timeout.ms", "retries", "message.send.max.retries",
    "transactional.id", "auto.offset.reset", "enable.auto.commit", "enable.auto.offset.store", "isolation.level",
    "partitioner", "enable.partition.eof", "check.crcs",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A server's address and credentials; its `repr` and `str` never show the password."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""
    options: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.user + '@' if self.user else ''}{self.address}/{self.database}"

    @classmethod
    def parse(cls, text: str, environ: dict[str, str] | None = None) -> ServerUrl:
        """Take the URL apart, then put `${NAME}` into its parts, so that a password may hold any character.

        Raises ValueError with a rule that shows no part of the URL.
        """
        found = _URL.match(text)
        if not found:
            raise ValueError("must be a URL: scheme://user:password@host:port/database")
        if found["fragment"]:
            raise ValueError("must not hold a # (write %23, or put the password in a variable: ${NAME})")
        credentials, _, place = found["authority"].rpartition("@")
        user, _, password = credentials.partition(":")
        scheme = found["scheme"].lower()
        host, port = _host_and_port(place, scheme, environ)
        user, password, database = (_filled(part or "", environ) for part in (user, password, found["database"]))
        return cls(scheme, host, port, user, password, database, _options(found["query"], environ))


def substitute(text: str, environ: dict[str, str] | None) -> str:
    """Replace each `${NAME}` by its variable; without an environment the text stays as it is."""
    return text if environ is None else VARIABLE.sub(lambda found: _variable(found[1], environ), text)


def _variable(name: str, environ: dict[str, str]) -> str:
    if name not in environ:
        raise ValueError(f"environment variable {name} is not set")
    return environ[name]


def _filled(part: str, environ: dict[str, str] | None) -> str:
    """Percent-decode what was written, never what a variable holds."""
    pieces = VARIABLE.split(part)
    if environ is None:
        return unquote(part)
    return "".join(_variable(piece, environ) if place % 2 else unquote(piece) for place, piece in enumerate(pieces))


def _host_and_port(place: str, scheme: str, environ: dict[str, str] | None) -> tuple[str, int]:
    found = _HOST_PORT.match(place)
    host = found and _filled(found["six"] or found["host"] or "", environ)
    if not found or not host:
        raise ValueError("must name a host")
    port = _filled(found["port"] or str(_DEFAULT_PORTS.get(scheme, 0)), environ)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(
            "must have a port from 1 to 65535 (and / : @ # ? in a password written as %2F %3A %40 %23 %3F, "
            "or in a variable)"
        )
    return host, int(port)


def _options(query: str | None, environ: dict[str, str] | None) -> dict[str, str]:
    pairs = [piece.partition("=") for piece in (query or "").split("&") if piece]
    return {_filled(name, environ): _filled(value, environ) for name, _, value in pairs}


def _to_url(value: object) -> object:
    return ServerUrl.parse(value) if isinstance(value, str) else value


def _to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _scheme(*schemes: str) -> AfterValidator:
    def check(url: ServerUrl) -> ServerUrl:
        if url.scheme not in schemes:
            raise ValueError(f"must begin with {' or '.join(scheme + '://' for scheme in schemes)}")
        return url

    return AfterValidator(check)


def _source_url(url: ServerUrl) -> ServerUrl:
    if url.options:
        raise ValueError("takes no ?options: TLS and timeouts have keys of their own (source.ssl_mode, ...)")
    return url


def _target_url(url: ServerUrl) -> ServerUrl:
    if not url.database:
        raise ValueError("must name a database: postgresql://user:password@host:port/DATABASE")
    if unknown := sorted(set(url.options) - _TARGET_OPTIONS):
        raise ValueError(f"knows no option {', '.join(unknown)}; it knows {', '.join(sorted(_TARGET_OPTIONS))}")
    if url.options.get("sslmode", "prefer") not in _TARGET_SSL_MODES:
        raise ValueError(f"sslmode must be one of {', '.join(_TARGET_SSL_MODES)}")
    return url


_TARGET_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TARGET_OPTIONS = {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslsni", "channel_binding",
"connect_timeout",
                   "application_name", "target_session_attrs", "keepalives", "keepalives_idle", "keepalives_interval",
                   "keepalives_count", "tcp_user_timeout"}  # fmt: skip


def _pattern(text: str) -> str:
    db, dot, table = text.partition(".")
    if not (dot and db and table) or "." in table:
        raise ValueError('must be "database.table", where * stands for any characters and ? for one')
    if text != text.strip() or "`" in text or not text.isprintable():
        raise ValueError("must be written without quotes, control characters and surrounding blanks")
    return text


def check_column_pattern(text: str) -> str:
    db, _, rest = text.partition(".")
    table, _, column = rest.partition(".")
    if not (db and table and column) or text != text.strip() or "`" in text or not text.isprintable():
        raise ValueError('must be "database.table.column" in quotes, where * stands for any characters and ? for one')
    return text


def check_sentinel(text: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError('must be a date in quotes, such as "0001-01-01"')
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a date of the calendar, from 0001-01-01 to 9999-12-31") from None
    return text


def check_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        if text != "UTC":
            raise ValueError(
                "must be an IANA zone that this machine knows (its package tzdata), such as Europe/Berlin"
            ) from None
    return text


def check_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(
            "must be 1 to 63 letters, digits, dots, dashes or underscores and begin with a letter or digit"
        )
    return text


def check_schema(text: str) -> str:
    literal = text.replace("{db}", "")
    if not text or "{" in literal or "}" in literal or not text.isprintable():
        raise ValueError('must be a schema name, in which "{db}" stands for the source database')
    if text == "cdc" or text.startswith("pg_") or len(literal.encode()) > 63:
        raise ValueError('must have at most 63 bytes and not be "cdc" (the pipeline\'s own state) or begin with "pg_"')
    return text


def check_column(text: str) -> str:
    if len(text.encode()) > 63 or not (text.isprintable() or not text):
        raise ValueError("must be a column name of at most 63 bytes, or empty")
    return text


def port_after(listen: str, steps: int) -> str:
    """The same host with a port so much higher, 65535 at most; "" and any port (0) stay; ValueError as `address`."""
    port = address(listen)[1] if listen else 0
    return f"{listen.rpartition(':')[0]}:{min(port + steps, 65535)}" if port else listen


def address(text: str) -> tuple[str, int]:
    """Split host:port; ValueError when it is not one."""
    found = _HOST_PORT.match(text)
    port = found["port"] if found else None
    if (
        not found
        or not (found["six"] or found["host"])
        or not port
        or not (port.isascii() and port.isdigit() and int(port) < 65536)
    ):
        raise ValueError("must be host:port")
    return found["six"] or found["host"], int(port)


def check_listen(text: str) -> str:
    if text:
        address(text)
    return text


def check_brokers(text: str) -> str:
    for broker in text.split(","):
        address(broker.strip())
    return text


def check_registry(text: str) -> str:
    if text and not re.match(r"https?://[^/?#\s]+", text):
        raise ValueError("must be empty, or begin with http:// or https://")
    return text


def _flattened(value: object) -> object:
    """`kafka = { security.protocol = "SSL" }` is a table in a table to TOML; librdkafka's names have the dots."""
    return dict(_leaves("", value)) if isinstance(value, dict) else value


def _leaves(path: str, value: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, inner in value.items():
        pairs += _leaves(f"{path}{name}.", inner) if isinstance(inner, dict) else [(path + name, inner)]
    return pairs


def _kafka(settings: dict[str, Any]) -> dict[str, Any]:
    if wrong := sorted(name for name, value in settings.items() if not isinstance(value, str | int | float | bool)):
        raise ValueError(f"{', '.join(wrong)}: a value must be a text, a number, true or false")
    if guarded := sorted(_GUARDED & set(settings)):
        raise ValueError(
            f"must not set {', '.join(guarded)}: the guarantees hang on it, or another key of [transport] sets it"
        )
    return settings


Pattern = Annotated[str, AfterValidator(_pattern)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_to_tuple)]
SourceUrl = Annotated[ServerUrl, BeforeValidator(_to_url), _scheme("mysql", "mariadb"), AfterValidator(_source_url)]
TargetUrl = Annotated[
    ServerUrl, BeforeValidator(_to_url), _scheme("postgresql", "postgres"), AfterValidator(_target_url)
]
Kafka = Annotated[dict[str, Any], BeforeValidator(_flattened), AfterValidator(_kafka)]
SslMode = Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"]
