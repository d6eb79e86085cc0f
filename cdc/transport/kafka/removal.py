"""The topics of a pipeline, which `cdc reset --all` deletes: found by what the control topic says, which goes last."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import closing

from confluent_kafka import OFFSET_BEGINNING

from cdc.errors import Malformed
from cdc.model.names import control_topic, schemas_topic, signal_topic
from cdc.protocol import control
from cdc.protocol.control import Base
from cdc.transport.kafka.broker import KafkaBroker


class Removal:
    """Those of a prefix: `known` ones, those that the control topic names, and the pipeline's own."""

    def __init__(self, broker: KafkaBroker, known: Sequence[str]) -> None:
        self._broker, self._control = broker, control_topic(broker.prefix)
        own = re.compile(re.escape(broker.prefix) + r"\.shards-\d+")
        named = {*known, *self._followed(), schemas_topic(broker.prefix), signal_topic(broker.prefix)}
        there = broker.topics()
        data = sorted(name for name in there if name in named or own.fullmatch(name))
        self.topics = (*data, *([self._control] if self._control in there else []))
        """Their names, in the order in which they go."""

    def _followed(self) -> set[str]:
        """The topics of the tables that any epoch followed."""
        broker, found = self._broker, set[str]()
        if not broker.exists(self._control):
            return found
        with closing(broker.consumer()) as consumer:
            low, high = broker.watermarks(consumer, self._control, 0)
            for message in broker.read(consumer, self._control, 0, OFFSET_BEGINNING, high if low < high else 0):
                try:
                    entry = control.from_document(json.loads(message.value() or b"{}"), int(message.offset() or 0))
                except (ValueError, Malformed):
                    continue
                found |= {followed.topic for followed in entry.tables} if isinstance(entry, Base) else set()
        return found

    def remove(self) -> None:
        """Delete them, and wait until the broker does not list them any more."""
        for name in self.topics:
            self._broker.delete(name)
