"""What the sink can read: a plan for each schema that counts, by the first five bytes of the values that bear it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cdc import codec
from cdc.codec.avro import parameters
from cdc.codec.envelope import PARTIAL
from cdc.codec.records import Opened
from cdc.errors import Halt, Refused
from cdc.model.policies import Policies
from cdc.model.record import Document
from sinks.cuts import UNREAD
from sinks.fold import runs


def frame_of(value_schema: Any) -> bytes:
    """The first five bytes of a value of this schema."""
    return b"\0" + int(value_schema).to_bytes(4, "big")


class Plans:
    """The plans of the schemas that bases have named; each is made when it is first asked for."""

    def __init__(
        self, schema: Callable[[int], Document], policies: Policies | None, check: Callable[[codec.ValuePlan], None]
    ) -> None:
        """`schema` finds one by its id; `check` stops where a plan's policies are not those of its table's rows."""
        self._schema, self._policies, self._check = schema, policies, check
        self._plans: dict[bytes, codec.ValuePlan] = {}
        self._ids: dict[bytes, tuple[int | None, int]] = {}
        self._unreadable: set[bytes] = set()

    def know(self, key_schema: Any, value_schema: Any) -> bytes:
        """A base names these schemas of a table; the frame of its values."""
        frame = frame_of(value_schema)
        self._ids[frame] = (key_schema, value_schema)
        self._plans.pop(frame, None)
        self._unreadable.discard(frame)
        return frame

    def ids(self, frame: bytes) -> tuple[int | None, int]:
        """The ids of key and value."""
        return self._ids[frame]

    def of(self, schema: Mapping[str, Any]) -> codec.ValuePlan:
        """The plan of a table, by what its state says of its schemas."""
        return self[frame_of(schema["value_schema"])]

    def __getitem__(self, frame: bytes) -> codec.ValuePlan:
        """The plan of values with this frame; Halt `schema_unknown` when no base names their schema, or it is gone."""
        plan = self._plans.get(frame)
        if plan is None:
            if frame not in self._ids:
                raise Halt(
                    "schema_unknown", f"schema id {int.from_bytes(frame[1:], 'big')}", "no base names this schema"
                )
            key, value = self._ids[frame]
            plan = codec.ValuePlan(self._schema(value), None if key is None else self._schema(key), self._policies)
            if not plan.partial:  # else it has some of the columns of another plan, which was checked
                self._check(plan)
            self._plans[frame] = plan
        return plan

    def open(self, values: Sequence[bytes]) -> Sequence[Opened]:
        """Read the envelopes of values of one topic; what bears an unknown schema is UNREAD:
        whether it matters the numbers tell."""
        opened: list[Opened] = []
        for run in runs(values):
            plan = self._readable(values[run.start][:5])
            opened += [UNREAD] * (run.stop - run.start) if plan is None else plan.open(values[run])
        return opened

    def _readable(self, frame: bytes) -> codec.ValuePlan | None:
        if frame in self._unreadable:
            return None
        try:
            if frame not in self._ids and len(frame) == len(frame_of(0)) and not frame[0]:
                self._know_partial(frame)
            return self[frame]
        except Halt as error:
            if error.code != "schema_unknown":
                raise
        self._unreadable.add(frame)
        return None

    def _know_partial(self, frame: bytes) -> None:
        """Know a schema that has some of a table's columns alone: no base names it, and it says so itself."""
        number = int.from_bytes(frame[1:], "big")
        try:
            schema: object = self._schema(number)
        except (Halt, Refused):  # of a record that does not count: whether it does the numbers tell
            return
        key = parameters(schema).get(PARTIAL) if isinstance(schema, Mapping) else None
        if key is not None:
            self.know(int(key), number)
