"""A pipeline's configuration: defaults, secrets, and every mistake at once."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from cdc.config.load import Config, ConfigRefused, ServerUrl, keys_of, load
from cdc.errors import Refused
from tests.helpers.documents import faults

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "config" / "pipeline.toml"
ENVIRON = {"CDC_SOURCE_PASSWORD": "s", "CDC_TARGET_PASSWORD": "t"}
REQUIRED = {"pipeline.name", "source.url", "source.tables", "source.server_id", "target.url"}
LEAST = {
    "pipeline": 'name = "od"',
    "source": 'url = "mysql://u@h"\ntables = ["a.*"]\nserver_id = 1',
    "target": 'url = "postgresql://u@h/d"',
}


def written(folder: Path, **sections: str) -> Path:
    """A file with the required keys, and these lines added to (or with "=" in front: instead of) a section's."""
    merged = dict(LEAST)
    for name, text in sections.items():
        merged[name] = text[1:] if text.startswith("=") else merged.get(name, "") + "\n" + text
    path = folder / "pipeline.toml"
    path.write_text("\n".join(f"[{name}]\n{text}" for name, text in merged.items()))
    return path


def loaded(folder: Path, environ: dict[str, str] | None = None, **sections: str) -> Config:
    return load(written(folder, **sections), environ or {})


def problems(folder: Path, environ: dict[str, str] | None = None, **sections: str) -> dict[str, tuple[str, str]]:
    with pytest.raises(ConfigRefused) as caught:
        loaded(folder, environ, **sections)
    return {one.key: (one.value, one.rule) for one in caught.value.problems}


def test_the_annotated_example_is_the_reference_and_equals_the_defaults(tmp_path):
    example = load(REFERENCE, ENVIRON)
    raw = tomllib.loads(REFERENCE.read_text())
    only_required: dict[str, dict[str, object]] = {}
    for key in REQUIRED:
        section, name = key.split(".")
        only_required.setdefault(section, {})[name] = raw[section][name]
    lines = [f"[{section}]\n" + "\n".join(f"{name} = {value!r}" for name, value in keys.items()) for section, keys in only_required.items()]
    (tmp_path / "least.toml").write_text("\n".join(lines))
    assert load(tmp_path / "least.toml", ENVIRON) == example


def test_the_annotated_example_names_every_key_and_no_other():
    raw = tomllib.loads(REFERENCE.read_text())
    assert [key for key in keys_of(Config) if "." in key] == [f"{section}.{name}" for section, keys in raw.items() for name in keys]


def test_exactly_the_keys_marked_as_required_are_required(tmp_path):
    (tmp_path / "empty.toml").write_text("[pipeline]\n[source]\n[target]\n")
    with pytest.raises(ConfigRefused) as caught:
        load(tmp_path / "empty.toml", {})
    assert {(key, "is required") for key in REQUIRED} == {(one.key, one.rule) for one in caught.value.problems}
    assert len(REQUIRED) == len(re.findall("REQUIRED", REFERENCE.read_text()))


@pytest.mark.parametrize("password", ["a/b", "a#b", "a@b:c", "100%41", "?x=1&y", "${HOME}", "ä ]["])
def test_a_variable_is_put_in_after_the_url_was_taken_apart(tmp_path, password):
    config = loaded(tmp_path, {"PW": password}, source='=url = "mysql://u:${PW}@h:1/db"\ntables=["a.b"]\nserver_id=1')
    assert ServerUrl("mysql", "h", 1, "u", password, "db") == config.source.url


def test_percent_signs_are_decoded_in_what_was_written_only(tmp_path):
    config = loaded(tmp_path, {"PW": "%41"}, target='=url = "postgresql://u%40x:%2F${PW}@[::1]/d?sslmode=require&sslrootcert="')
    url = config.target.url
    assert ("u@x", "/%41", "::1", 5432, "[::1]:5432") == (url.user, url.password, url.host, url.port, url.address)
    assert {"sslmode": "require", "sslrootcert": ""} == url.options


def test_a_missing_variable_is_named(tmp_path):
    found = problems(tmp_path, {}, target='=url = "postgresql://u:${NO_SUCH}@h/d"')
    assert {"target.url": ("'postgresql://u:${NO_SUCH}@h/d'", "environment variable NO_SUCH is not set")} == found


def test_one_pattern_without_brackets_is_told_how_a_list_is_written(tmp_path):
    found = problems(tmp_path, source='=url = "mysql://u@h"\ntables = "d.*"\nserver_id = 1')
    assert 'must be a list in brackets, such as ["database.table"]' == found["source.tables"][1]


def test_a_variable_may_stand_in_any_text_but_not_for_a_number(tmp_path):
    found = problems(tmp_path, {"ID": "7"}, source='=url = "mysql://u@h"\ntables = ["${ID}.*"]\nserver_id = "${ID}"')
    assert {"source.server_id": ("'${ID}'", "must be a valid integer")} == found


@pytest.mark.parametrize(
    ("said", "apply", "snapshot"),
    [
        ('listen = "0.0.0.0:9000"', "0.0.0.0:9001", "0.0.0.0:9002"),
        ('listen = "[::1]:9000"', "[::1]:9001", "[::1]:9002"),
        ('listen = "127.0.0.1:0"', "127.0.0.1:0", "127.0.0.1:0"),
        ('listen = "127.0.0.1:65535"', "127.0.0.1:65535", "127.0.0.1:65535"),
        ('listen = ""', "", ""),
        ('listen = "h:1"\napply_listen = "h:1"\nsnapshot_listen = ""', "h:1", ""),
        ("", "127.0.0.1:19188", "127.0.0.1:19189"),
    ],
)
def test_each_process_of_one_file_has_a_port_for_its_metrics(tmp_path, said, apply, snapshot):
    found = loaded(tmp_path, metrics=said).metrics
    assert (apply, snapshot) == (found.apply_listen, found.snapshot_listen)
    assert (said != "") == ("apply_listen" in found.model_fields_set)  # what follows from a choice is one: it gives way to none


def test_every_problem_is_reported_at_once(tmp_path):
    found = problems(
        tmp_path,
        source='=url = "mysql://u:pw@h:99999"\ntables = ["a", "a.b", 3]\nserver_id = 0\nssl_mod = "x"',
        target='=url = "mysql://u@h/d"\nschema = "cdc"',
        transport='kind = "kafak"\nbootstrap = "nowhere"\npartitions = 0\nregistry = "ftp://x"',
        snapshot="parallel = true",
        apply="max_delay_seconds = -1",
        metrics='listen = "9187"',
        typo="x = 1",
    )
    expected = {
        *("source.url", "source.tables.0", "source.tables.2", "source.server_id", "source.ssl_mod", "target.url", "target.schema"),
        *("transport.kind", "transport.bootstrap", "transport.partitions", "transport.registry"),
        *("snapshot.parallel", "apply.max_delay_seconds", "metrics.listen", "typo"),
    }
    assert expected == set(found)
    assert "is not a known key; did you mean source.ssl_mode?" == found["source.ssl_mod"][1]
    assert ("'kafak'", "must be 'direct' or 'kafka'") == found["transport.kind"]


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("source", '=url = "mysql://u:geheim@h:x"\ntables=["a.b"]\nserver_id=1'),
        ("source", '=url = "mysql://u:ge#heim@h"\ntables=["a.b"]\nserver_id=1'),
        ("source", '=url = "u:geheim@h"\ntables=["a.b"]\nserver_id=1'),
        ("source", '=url = "mysql://u:geheim/x@h"\ntables=["a.b"]\nserver_id=1'),
        ("target", '=url = "postgresql://u:geheim@h"'),
        ("target", '=url = "postgresql://u@h/d?sslpassword=geheim&nope=1"'),
        ("transport", 'registry = "ftp://u:geheim@h"'),
        ("transport", 'kafka = { "sasl.password" = ["geheim"] }'),
        ("transport", 'kafka = { "sasl.password" = "geheim", acks = 1 }'),
    ],
)
def test_no_error_shows_a_secret(tmp_path, section, text):
    with pytest.raises(ConfigRefused) as caught:
        loaded(tmp_path, **{section: text})
    assert "heim" not in str(caught.value) + repr(caught.value.document())


def test_no_repr_shows_a_secret(tmp_path):
    config = loaded(
        tmp_path,
        {"PW": "geheim"},
        source='=url = "mysql://u:${PW}@h"\ntables=["a.b"]\nserver_id=1',
        target='=url = "postgresql://u:${PW}@h/d?sslpassword=${PW}"',
        transport='registry = "http://u:${PW}@h"\nkafka = { sasl.password = "${PW}" }',
    )
    assert "geheim" not in repr(config) + str(config) + str(config.source.url)
    assert "geheim" == config.source.url.password == config.transport.kafka["sasl.password"]


def test_a_registry_s_password_is_encoded_into_its_url(tmp_path):
    assert "http://u:a%2F%40@h/" == loaded(tmp_path, {"PW": "a/@"}, transport='registry = "http://u:${PW}@h/"').transport.registry


def test_kafka_settings_may_be_written_with_dots_or_in_quotes(tmp_path):
    text = '[transport.kafka]\nsecurity.protocol = "SSL"\n"ssl.ca.location" = "/x"\nssl.key.password = "p"\nlinger.ms = 5\nenable.x = true'
    expected = {"security.protocol": "SSL", "ssl.ca.location": "/x", "ssl.key.password": "p", "linger.ms": 5, "enable.x": True}
    assert expected == loaded(tmp_path, transport=text).transport.kafka


def test_kafka_settings_that_carry_a_guarantee_are_refused(tmp_path):
    assert "must not set acks" in problems(tmp_path, transport="kafka = { acks = 1 }")["transport.kafka"][1]


def test_the_prefix_is_the_pipeline_s_name_unless_given(tmp_path):
    assert "od" == loaded(tmp_path).transport.prefix
    assert "other" == loaded(tmp_path, transport='prefix = "other"').transport.prefix


@pytest.mark.parametrize("pattern", ["a", "a.", ".b", "a.b.c", " a.b", "`a`.b", "a.b\\n"])
def test_a_pattern_names_a_database_and_a_table(tmp_path, pattern):
    assert ["source.exclude.0"] == list(problems(tmp_path, source=f'exclude = ["{pattern}"]'))


def test_tls_of_the_source_is_whole_or_refused(tmp_path):
    assert "need ssl_ca" in problems(tmp_path, source='ssl_mode = "verify_ca"')["source"][1]
    assert "together" in problems(tmp_path, source=f'ssl_cert = "{REFERENCE}"')["source"][1]
    assert ("'/no/such'", "the file does not exist") == problems(tmp_path, source='ssl_ca = "/no/such"')["source.ssl_ca"]


def test_certificates_of_the_target_must_exist(tmp_path):
    found = problems(tmp_path, target='=url = "postgresql://u@h/d?sslmode=verify-full&sslrootcert=/no/such"')
    assert "the file does not exist" == found["target.url ?sslrootcert"][1]


@pytest.mark.parametrize("text", ["x", "[pipeline", "pipeline = 1", "\udcff"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text):
    (tmp_path / "p.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Refused) as caught:
        load(tmp_path / "p.toml", {})
    assert ("config", 2, []) == (caught.value.code, caught.value.exit_code, faults("error", caught.value.document()))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Refused, match="does not exist"):
        load(tmp_path / "none.toml", {})


def test_a_configuration_does_not_change(tmp_path):
    config = loaded(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        config.source.server_id = 9  # type: ignore[misc]


def test_policies_are_checked_to_the_last_column_and_unknown_keys_are_suggested(tmp_path):
    found = problems(
        tmp_path,
        policies='zero_date = "nul"\nsentinel_date = "2021-02-30"\ntimestamp_zone = "Europe/Bärlin"\nnul_txt = "strip"\n'
        'columns."a.b.c" = { zero_dat = "null", over_wide = 1 }\ncolumns."a.b" = { json = "jsonb" }\ncolumns."a.b.d" = { json = "jsonc" }',
    )
    assert {
        "policies.zero_date": "'nul'", "policies.sentinel_date": "'2021-02-30'", "policies.timestamp_zone": "'Europe/Bärlin'",
        "policies.nul_txt": "'strip'", "policies.columns.a.b.c.zero_dat": "'null'", "policies.columns.a.b.c.over_wide": "1",
        "policies.columns.a.b.[key]": "", "policies.columns.a.b.d.json": "'jsonc'",
    } == {key: value for key, (value, _) in found.items()}  # fmt: skip
    assert found["policies.nul_txt"][1].endswith("did you mean policies.nul_text?")
    assert found["policies.columns.a.b.c.zero_dat"][1].endswith("did you mean policies.columns.a.b.c.zero_date?")
    assert "from 0001-01-01 to 9999-12-31" in found["policies.sentinel_date"][1]


def test_a_column_s_policy_is_the_pipeline_s_but_for_what_is_said_of_it(tmp_path):
    config = loaded(tmp_path, policies='zero_date = "text"\njson = "jsonb"\ncolumns."a.*.Born" = { zero_date = "sentinel" }')
    one, other = (config.policies.policies.of("a", "b", name) for name in ("born", "died"))
    assert (("sentinel", "jsonb"), ("text", "jsonb")) == ((one.zero_date, one.json), (other.zero_date, other.json))
