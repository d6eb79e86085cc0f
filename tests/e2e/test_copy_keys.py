"""`cdc copy --keys`: rows are named by what somebody says of their keys, of every type that can be said; what cannot be stops nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdc.commands.copy import copy
from cdc.config.load import Config, load
from cdc.errors import Refused
from tests.e2e import oracle
from tests.e2e.streaming import streaming
from tests.e2e.watch import caught_up
from tests.helpers.servers import SourceDatabase, TargetDatabase

KEYS: dict[str, tuple[str, str, list[list[str]], list[str]]] = {
    "clock": ("k TIME(3)", "k", [["-838:59:59.000"], ["00:00:01.5"], ["12:30:00"]],
              ["interval '-838:59:59'", "'00:00:01.5'", "'12:30:00'"]),
    "fixed": ("k BINARY(4)", "k", [["0x00ff0000"], ["0x01"], ["0x"]], [r"'\x00ff0000'", r"'\x01000000'", r"'\x00000000'"]),
    "octets": ("k VARBINARY(9), n INT", "k, n", [["0x", "1"], ["0x2700ff", "1"], ["0xAB", "1"]],
               [r"'\x', 1", r"'\x2700ff', 1", r"'\xab', 1"]),
    "long": ("k TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "k(80)", [["Zähne 🦷"], ["it's"], ["a" * 64]],
             ["'Zähne 🦷'", "'it''s'", f"'{'a' * 64}'"]),
    "latin": ("k MEDIUMTEXT CHARACTER SET latin1 COLLATE latin1_general_cs", "k(80)", [["é"], ["?"], [""]], ["'é'", "'?'", "''"]),
    "stamp": ("k DATETIME(2), b BIT(5)", "k, b",
              [["2024-02-29 01:02:03.04", "101"], ["2024-02-29 00:00:00.00", "00101"], ["1000-01-01", "0"]],
              ["'2024-02-29 01:02:03.04', B'00101'", "'2024-02-29', B'00101'", "'1000-01-01', B'00000'"]),
}  # fmt: skip
"""By table: key columns, the key, three keys as they are said, and as PostgreSQL writes them. The source has the first two."""


def _said(table: str, at: int) -> str:
    """The values of a key for the source."""
    forms = {"fixed": "{}", "octets": "{}", "clock": "'{}'", "stamp": "'{}'", "long": "'{}'", "latin": "'{}'"}
    values = [value.replace("'", "''") for value in KEYS[table][2][at]]
    if table in ("fixed", "octets"):
        values[0] = f"X'{values[0][2:]}'"
    if table == "stamp":
        return f"'{values[0]}', b'{values[1]}'"
    return ", ".join([forms[table].format(values[0]), *values[1:]])


def _copied(config: Config, table: str, keys: list[list[str]]) -> tuple[str, str, int]:
    done = copy(config, table, "", json.dumps(keys), False, True, 60.0, lambda *_: None)
    return done["outcome"], done["reason"], done["rows"]


@pytest.mark.parametrize("flavour", ["mysql", pytest.param("mariadb", marks=pytest.mark.soak)])
def test_rows_are_read_again_by_what_is_said_of_their_keys(flavour: str, request: Any, pipeline: Any, postgres: TargetDatabase) -> None:
    """A changed row, a missing one and one that the source does not have, of each type; a key that no column can hold is refused."""
    source: SourceDatabase = request.getfixturevalue(flavour)
    for name, (columns, key, _, _) in KEYS.items():
        source.execute(f"CREATE TABLE `{name}` ({columns}, v INT, PRIMARY KEY ({key}))")
        source.execute(f"INSERT INTO `{name}` VALUES ({_said(name, 0)}, 1), ({_said(name, 1)}, 2)")
    source.execute("CREATE TABLE whole (id INT PRIMARY KEY)", "INSERT INTO whole VALUES (1)")
    with streaming(pipeline, source, postgres, None, "direct") as works:
        made = works.pipeline
        caught_up(made)
        config = load(made.path, made.environ)
        for name, (columns, _, keys, there) in KEYS.items():
            place, first = f'"{source.name}"."{name}"', [column.split()[0] for column in columns.split(", ")]
            postgres.execute(
                f"UPDATE {place} SET v = 9 WHERE ({', '.join(first)}) = ({there[0]})",
                f"DELETE FROM {place} WHERE ({', '.join(first)}) = ({there[1]})",
                f"INSERT INTO {place} VALUES ({there[2]}, 9)",
            )
            assert [(2,)] == postgres.execute(f"SELECT count(*) FROM {place} WHERE v = 9"), name
            assert ("done", "", 3) == _copied(config, f"{source.name}.{name}", keys), name
            assert {} == oracle.differences(source, postgres, [name])
        assert ("refused", "key_text", 0) == _copied(config, f"{source.name}.whole", [["99999999999"]])
        assert ("refused", "key_text", 0) == _copied(config, f"{source.name}.latin", [["日"]])
        assert {} == oracle.differences(source, postgres, ["whole", "latin"])
        for name, wrong in (("clock", "1:2"), ("fixed", "ff"), ("fixed", "0x0102030405"), ("stamp", "yesterday")):
            with pytest.raises(Refused) as refused:
                _copied(config, f"{source.name}.{name}", [[wrong, "1"][: len(KEYS[name][0].split(", "))]])
            assert "keys" == refused.value.code
        works.check()
