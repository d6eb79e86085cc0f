"""The simulated brokers and the simulated target are asked what the real ones are asked, by the same tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cdc.errors import Halt, Refused, Retry, RowRefused
from cdc.protocol.table_states import TableState
from cdc.transport.kafka.reader import KafkaReader
from cdc.transport.kafka.schemas_topic import topic_registry
from cdc.transport.kafka.writer import KafkaWriter
from sinks.postgres.quarantine import Schemas
from sinks.quarantine import Queued
from tests.helpers.servers import TargetDatabase
from tests.simulation.broker import SimBrokers, SimKafka
from tests.simulation.scheduler import Scheduler
from tests.simulation.target import SimPostgres, SimTarget
from tests.sinks.postgres.by_hand import HandTarget
from tests.sinks.postgres.opening import batch, config, cut
from tests.sinks.postgres.plans import ONLY_KEY, HandPlan
from tests.transport import test_contract as transport_contract

PREFIX = "p"


class Nobody:
    """Whoever uses a simulated server from outside of a simulation."""

    alive = True

    def __init__(self) -> None:
        self.producers: list[Any] = []
        self.targets: list[Any] = []

    def reach(self, brokers: SimBrokers) -> None:
        """They are always there."""


CONTRACT = [
    transport_contract.test_records_of_a_partition_arrive_in_the_order_they_were_sent,
    transport_contract.test_flush_names_the_last_numbered_record_and_not_the_tombstone_after_it,
    transport_contract.test_the_ends_are_where_the_next_records_go,
    transport_contract.test_control_records_have_growing_offsets_and_can_be_read_back,
    transport_contract.test_a_writer_whose_epoch_is_over_says_so,
    transport_contract.test_control_and_data_reach_the_same_reader,
    transport_contract.test_a_new_assignment_delivers_again_what_was_not_released,
    transport_contract.test_an_offset_that_is_no_longer_held_is_an_error_or_told_and_never_passed_in_silence,
    transport_contract.test_control_records_that_expired_stop_the_reader,
    transport_contract.test_records_that_a_broker_lost_are_waited_for_where_they_come_again_and_control_records_are_not,
    transport_contract.test_the_control_record_before_an_offset_is_known_again,
    transport_contract.test_a_writer_whose_control_record_was_lost_goes_back,
    transport_contract.test_a_schema_keeps_its_number_and_is_found_by_it,
    transport_contract.test_a_held_partition_delivers_nothing_until_it_is_let_go_and_then_all_in_order,
    transport_contract.test_holds_tells_the_number_at_an_offset,
    transport_contract.test_headers_keep_their_record_in_order,
]


@pytest.mark.parametrize("contract", CONTRACT, ids=lambda contract: contract.__name__.removeprefix("test_"))
def test_the_simulated_brokers_keep_the_contract(contract: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    brokers, nobody = SimBrokers(Scheduler(1)), Nobody()

    def made(bootstrap: str, prefix: str, kafka: object, partitions: int = 1) -> SimKafka:
        return SimKafka(brokers, nobody, prefix, partitions, lambda: None)

    def expire(kafka: object, topic: str, below: int) -> None:
        one = brokers.topics[topic][0]
        one.held, one.low = [held for held in one.held if held.offset >= below], below

    monkeypatch.setattr(transport_contract, "KafkaBroker", made)
    monkeypatch.setattr(transport_contract, "expire", expire)
    kafka = SimpleNamespace(bootstrap="", prefix=PREFIX, configure=lambda topic, settings: None)
    broker = made("", PREFIX, {}, transport_contract.PARTITIONS)
    registry = topic_registry(broker)
    with closing(KafkaWriter(broker, registry)) as writer, closing(KafkaReader(broker, registry)) as reader:
        given = {
            "kafka": kafka,
            "transport": transport_contract.Transport("kafka", writer, reader, PREFIX),
            "request": SimpleNamespace(getfixturevalue=lambda name: kafka),
        }
        contract(**{name: given[name] for name in inspect.signature(contract).parameters})


# -- the target


Target = Callable[[], Any]


@pytest.fixture(params=["real", "simulated"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Opens writers of one pipeline, with one table."""
    made: list[Any] = []
    server, nobody = SimPostgres(Scheduler(1)), Nobody()
    real: TargetDatabase | None = request.getfixturevalue("postgres") if request.param == "real" else None

    def opened() -> Any:
        one = SimTarget(server, nobody) if real is None else HandTarget(config(real), "sim")
        made.append(one)
        one.open()
        return one

    yield opened
    for one in made:
        one.close()


KEY: HandPlan = ONLY_KEY


def _begun(target: Target) -> Any:
    one = target()
    one.create_table(KEY)
    return one


def test_nothing_of_a_transaction_is_there_before_its_commit_and_all_of_it_after(target: Target) -> None:
    one = _begun(target)
    one.write(batch(KEY, ("c", None, (1,))))
    one.rollback()
    assert one.read().progress is None
    one.write(batch(KEY, ("c", None, (1,))))
    one.commit(cut(5, t=(6, 5)))
    stored = one.read().progress
    assert (5, {("t", 0): (6, 5)}) == (stored.cut_no, dict(stored.partitions))


def test_a_commit_keeps_the_places_that_did_not_move(target: Target) -> None:
    one = _begun(target)
    one.commit(cut(5, t=(6, 5), u=(9, 9)))
    one.commit(cut(6, t=(7, 6)))
    assert {("t", 0): (7, 6), ("u", 0): (9, 9)} == dict(one.read().progress.partitions)


def test_a_commit_that_goes_on_from_elsewhere_is_refused(target: Target) -> None:
    one = _begun(target)
    one.commit(cut(5, t=(6, 5)))
    with pytest.raises(Halt) as stopped:
        one.commit(replace(cut(7, t=(8, 7)), since={("t", 0): (7, 6)}))
    assert "place_apart" == stopped.value.code
    one.commit(replace(cut(7, t=(8, 7)), since={("t", 0): (6, 5)}))
    assert {("t", 0): (8, 7)} == dict(one.read().progress.partitions)


def test_who_opens_later_ends_who_wrote_before(target: Target) -> None:
    one = _begun(target)
    one.write(batch(KEY, ("c", None, (1,))))
    other = target()
    with pytest.raises(Retry) as lost:
        one.commit(cut(5, t=(6, 5)))
    assert "target_lost" == lost.value.code
    with pytest.raises(Halt) as stopped:
        one.open()
    assert "fenced" == stopped.value.code
    assert other.read().progress is None


def test_what_an_attempt_did_is_undone_alone(target: Target) -> None:
    one = _begun(target)
    one.write(batch(KEY, ("c", None, (1,))))

    def refuse(_: object) -> None:
        raise Refused("second_table", "here", "no")

    error = one.attempt("here", refuse)
    assert ("second_table", True) == (error.code, isinstance(error, Refused))
    assert one.attempt("here", lambda _: None) is None
    one.commit(cut(5, t=(6, 5)))
    assert 5 == one.read().progress.cut_no


def test_a_second_table_takes_the_place_of_the_first_or_leaves_no_trace(target: Target) -> None:
    one = _begun(target)
    one.write(batch(KEY, ("c", None, (1,))))
    for done in (False, True):
        assert one.make_shadow(("app", KEY.table)) is None
        beside = batch(KEY, ("c", None, (2,)))
        beside.shadow = "copy"
        one.write(beside)
        if done:
            assert one.become_equal(KEY, strict=True) is None
        one.drop_shadow(("app", KEY.table))
        one.commit(cut(5 + done, t=(6 + done, 5 + done)))
        one.write(batch(KEY, ("d", (1 + done,), None)))
        one.rollback()
    assert [6] == [one.read().progress.cut_no]


def test_a_state_is_stored_with_the_commit_that_it_was_given_to(target: Target) -> None:
    one = _begun(target)
    state = next(iter(one.read().tables.values()))
    assert TableState.NEW == state.state
    one.commit(cut(5), [replace(state, state=TableState.COPYING)])
    assert [TableState.COPYING] == [table.state for table in one.read().tables.values()]


def test_a_table_with_rows_of_somebody_else_is_refused(target: Target) -> None:
    one = _begun(target)
    one.write(batch(KEY, ("c", None, (1,))))
    one.commit(cut(5, t=(6, 5)))
    with pytest.raises((Refused, Halt)) as refused:
        one.create_table(KEY)
    assert "target_not_empty" == refused.value.code


def test_keys_that_wait_are_known_by_whoever_comes_next(target: Target) -> None:
    one = _begun(target)
    waits = Queued(b"k", "c", b"v", 1, 1, "0-1-1", 0, RowRefused("target_value", "app", "refused", "", "22003"))
    one.lock()
    one.quarantine(lambda waiting: waiting.add(("app", KEY.table), Schemas(1, None, {}), [waits], None))
    one.commit(cut(5, t=(6, 5)))
    other = target()
    assert {("app", KEY.table): {b"k"}} == other.quarantine(lambda waiting: waiting.held())
    other.lock()
    other.quarantine(lambda waiting: waiting.drop(("app", KEY.table), [b"k"]))
    other.commit(cut(6, t=(7, 6)))
    assert {} == other.quarantine(lambda waiting: waiting.held())
