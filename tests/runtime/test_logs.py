"""What a line of the log says of an error."""

from __future__ import annotations

import pytest

from cdc.errors import Halt
from cdc.runtime import logs


def test_a_defect_names_the_innermost_thing_that_it_was_about_and_not_its_message() -> None:
    with pytest.raises(UnicodeDecodeError) as defect, logs.about("od.a"), logs.about("od.a.column"):
        b"\xff secret".decode()
    said = logs.described(defect.value)
    assert ("internal", "od.a.column", "UnicodeDecodeError") == (said["code"], said["place"].split(",")[0], said["rule"])
    assert "secret" not in str(said)
    with pytest.raises(Halt) as stopped, logs.about("od.a"):
        raise Halt("code", "place", "rule")
    assert "place" == logs.described(stopped.value)["place"]
