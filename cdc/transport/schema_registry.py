"""Where schemas live: a Confluent-compatible registry over HTTP, or a compacted topic that stands in for one.

Either way a record's first five bytes are a zero and the schema's id
(https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from cdc.errors import Halt, Refused, Retry, own_words
from cdc.model.record import Document
from cdc.model.table import TableName
from cdc.runtime import clock, crash_points as crash, timing
from cdc.transport.avro_records import proven


class Registry(Protocol):
    """Gives schemas numbers and finds them again."""

    def register(self, subject: str, schema: Document) -> int:
        """The id of this schema under this subject, made unless known."""

    def schema(self, schema_id: int) -> Document:
        """The schema with this id."""


class SchemaLog(Protocol):
    """An ordered, compacted log of keyed texts whose offsets never change."""

    def append(self, key: str, value: bytes) -> int:
        """Append, acknowledged; its offset."""

    def held(self) -> Iterator[tuple[int, bytes]]:
        """Every record held now."""


class TopicRegistry:
    """A schema's id is the offset of its record in `<prefix>.schemas`."""

    def __init__(self, log: SchemaLog) -> None:
        self._log = log
        self._ids: dict[tuple[str, str], int] = {}
        self._held: dict[int, TableName] = {}
        self._schemas: dict[int, Document] = {}

    def register(self, subject: str, schema: Document) -> int:
        """The id of this schema under this subject, appended unless it is there."""
        text = json.dumps(schema, separators=(",", ":"))
        if (subject, text) not in self._ids:
            self._refresh()
        if (subject, text) not in self._ids:
            # a key of its own: of two captures that register at once each may go by its own record, and compaction must
            # keep both
            key = f"{subject} {hashlib.sha256(text.encode()).hexdigest()[:16]} {clock.fresh_id()}"
            crash.point("schemas.registering")
            self._log.append(
                key, json.dumps({"subject": subject, "version": self._versions(subject) + 1, "schema": text}).encode()
            )
            crash.point("schemas.appended")
            self._refresh()  # read back before its first use
        return self._ids[subject, text]

    def _versions(self, subject: str) -> int:
        return sum(1 for known, _ in self._ids if known == subject)

    def schema(self, schema_id: int) -> Document:
        """The schema whose record has this offset; Halt `schema_unknown` or `schema_invalid`."""
        if schema_id not in self._held:
            self._refresh()
        if schema_id not in self._held:
            raise Halt(
                "schema_unknown",
                f"schema id {schema_id}",
                "the schemas topic holds no such record",
                "is transport.prefix right?",
            )
        if schema_id not in self._schemas:
            subject, text = self._held[schema_id]
            self._schemas[schema_id] = proven(text, f"schema id {schema_id} ({subject or 'without a subject'})")
        return self._schemas[schema_id]

    def _refresh(self) -> None:
        for offset, value in self._log.held():
            registered = self._held[offset] = _registered(value)
            self._ids[registered] = offset


def _registered(value: bytes) -> TableName:
    """Subject and schema in a record of the schemas topic; two empty texts in one that is none,
    whose schema is refused when asked for."""
    try:
        document = json.loads(value)
        return str(document["subject"]), str(document["schema"])
    except (ValueError, KeyError, TypeError):
        return "", ""


class HttpRegistry:
    """A Confluent-compatible schema registry."""

    def __init__(self, url: str, answer_seconds: float = timing.TIMES.answer_seconds) -> None:
        """`answer_seconds`: the longest wait for a whole answer."""
        self._seconds = answer_seconds
        parts = urllib.parse.urlsplit(url.rstrip("/"))
        account, _, host = parts.netloc.rpartition("@")
        self._url = urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))
        self._headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        if account:
            self._headers["Authorization"] = (
                "Basic " + base64.b64encode(urllib.parse.unquote(account).encode()).decode()
            )
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, Document] = {}

    def check(self) -> None:
        """Raise unless the registry answers and lets us in."""
        self._call("/subjects", None)

    def register(self, subject: str, schema: Document) -> int:
        """The id that the registry gives this schema under this subject."""
        text = json.dumps(schema, separators=(",", ":"))
        if (subject, text) not in self._ids:
            answer = self._call(f"/subjects/{urllib.parse.quote(subject, safe='')}/versions", {"schema": text})
            self._ids[subject, text] = int(answer["id"])
        return self._ids[subject, text]

    def schema(self, schema_id: int) -> Document:
        """The schema that the registry holds under this id; Halt `schema_invalid`."""
        if schema_id not in self._schemas:
            path = f"/schemas/ids/{schema_id}"
            self._schemas[schema_id] = proven(str(self._call(path, None)["schema"]), self._url + path)
        return self._schemas[schema_id]

    def _answer(self, request: urllib.request.Request) -> bytes:
        with urllib.request.urlopen(request, timeout=self._seconds) as answer:
            found: bytes = answer.read()
            return found

    def _call(self, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._headers)
        try:
            return json.loads(_within(self._seconds, lambda: self._answer(request)))
        except urllib.error.HTTPError as e:
            if e.code >= 500:
                raise Retry(
                    "registry_error", self._url + path, f"HTTP {e.code}", "the registry is busy or broken"
                ) from None
            raise Refused(
                "registry_refused",
                self._url + path,
                f"HTTP {e.code}",
                "is this a Confluent-compatible registry that accepts the schema?",
            ) from None
        except ValueError:
            hint = "is transport.registry a schema registry?"
            raise Refused("registry_refused", self._url + path, "the answer is not JSON", hint) from None
        except (urllib.error.URLError, OSError) as e:
            raise Retry(
                "registry_unreachable",
                self._url,
                own_words(getattr(e, "reason", e)) or type(e).__name__,
                "is transport.registry right, and the registry up?",
            ) from None


def _within(seconds: float, work: Callable[[], bytes]) -> bytes:
    """What work returns or raises; TimeoutError after so long, whatever it waits for: a socket's own time-out begins
    anew with each byte, and looking up a name has none."""
    done: Future[bytes] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to who waits
            done.set_exception(error)

    threading.Thread(target=run, name="registry", daemon=True).start()
    return done.result(seconds)
