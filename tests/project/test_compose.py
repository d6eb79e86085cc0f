"""docker-compose.yml can be trusted by people who have an engine: what it names exists, and it is closed to the outside."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cdc import stack
from cdc.cli.main import cli
from cdc.cli.reserved import RESERVED
from cdc.config import load as config
from cdc.stack import Settings
from tests.e2e.watch import caught_up
from tests.helpers.servers import PASSWORD, SourceDatabase

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OWN = {name: service for name, service in SERVICES.items() if "build" in service}
ENV_EXAMPLE = (ROOT / "config" / "compose" / "env.example").read_text()
KEYS = {"image", "build", "entrypoint", "command", "environment", "volumes", "networks", "ports", "healthcheck", "depends_on", "restart",
        "profiles"}  # fmt: skip
ENDS = {"on-failure", "no"}
"""How services are restarted that end when their work is done."""
PROFILES = [("mariadb",), ("mysql",), ("mariadb", "reconcile"), ("mysql", "reconcile")]
EVERY = pytest.mark.parametrize("name", SERVICES)


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    return [(line.split(":")[0], line.split(":")[1]) for line in service.get("volumes", [])]


def inside_port(service: dict[str, Any]) -> list[str]:
    return [line.rsplit(":", 1)[1] for line in service.get("ports", [])]


@EVERY
def test_a_service_uses_only_keys_that_compose_knows(name):
    assert set() == set(SERVICES[name]) - KEYS


@EVERY
def test_a_service_has_an_image_with_a_version_or_is_built_here(name):
    service = SERVICES[name]
    if "build" in service:
        assert (ROOT / service["build"] / "Dockerfile").is_file()
    else:
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d[\w.]*", service["image"]), service["image"]


@EVERY
def test_a_service_that_stays_says_whether_it_is_healthy(name):
    service = SERVICES[name]
    check = service["healthcheck"]
    if service.get("restart") in ENDS:
        assert {"disable": True} == check  # it ends; others wait for its exit code
        return
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert all(re.fullmatch(r"\d+s", str(check[key])) for key in ("interval", "timeout"))
    assert 1 <= check["retries"]


@EVERY
def test_ports_are_published_on_the_loopback_only_and_once(name):
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port
    outside = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(set(outside)) == len(outside)


@EVERY
def test_what_a_service_waits_for_exists_and_can_be_waited_for(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        waited = SERVICES[other]
        assert "profiles" not in waited or how["required"] is False
        ends = waited.get("restart") in ENDS
        assert ("service_completed_successfully" if ends else "service_healthy") == how["condition"]


@EVERY
def test_every_mounted_file_and_volume_exists(name):
    for source, inside in mounts(SERVICES[name]):
        assert inside.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
        else:
            assert source in FILE["volumes"], source


def test_every_volume_is_used():
    assert set(FILE["volumes"]) == {source for service in SERVICES.values() for source, _ in mounts(service)} & set(FILE["volumes"])


def test_every_variable_has_a_default_or_stands_in_the_example():
    needed = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert needed == set(re.findall(r"^(\w+)=$", ENV_EXAMPLE, re.MULTILINE))
    assert ["COMPOSE_PROFILES=mariadb"] == re.findall(r"^\w+=.+$", ENV_EXAMPLE, re.MULTILINE)
    plain = re.sub(r"\$\$", "", TEXT)
    assert [] == re.findall(r"\$(?!\{\w+:[?-])", plain)


def test_no_password_is_written_down():
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            assert "PASSWORD" not in key or str(value).startswith("${"), key


@pytest.mark.parametrize("name", OWN)
def test_our_services_run_commands_of_our_command_line(name):
    commands = typer.main.get_command(cli).commands  # type: ignore[attr-defined]
    command, *options = OWN[name]["command"]
    if "entrypoint" in OWN[name]:
        *python, module = OWN[name]["entrypoint"]
        assert (["python", "-m"], "cdc.demo.opendental") == (python, module)
        return
    assert command in set(commands) - set(RESERVED)
    assert {one for one in options if one.startswith("--")} <= {name for option in commands[command].params for name in option.opts}
    assert "/etc/cdc/pipeline.toml" in {inside for _, inside in mounts(OWN[name])}
    assert "WORKDIR /etc/cdc" in (ROOT / "Dockerfile").read_text()  # where the commands look for pipeline.toml


def test_the_commands_that_the_product_needs_are_all_there():
    assert {"sample", "snapshot", "capture", "apply", "reconcile"} == {service["command"][0] for service in OWN.values()}


def rendered(profiles: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The services that `docker compose --profile ..` brings, each with those that it waits for."""
    active = {name: one for name, one in SERVICES.items() if "profiles" not in one or set(one["profiles"]) & set(profiles)}
    return {
        name: {
            **service,
            "depends_on": {
                other: how for other, how in service.get("depends_on", {}).items() if other in active or how.get("required") is not False
            },
        }
        for name, service in active.items()
    }


@pytest.mark.parametrize("profiles", PROFILES, ids="+".join)
def test_a_profile_brings_all_that_its_services_wait_for_one_source_and_an_order(profiles):
    services = rendered(profiles)
    assert [profiles[0]] == [
        name for name, one in services.items() if "source" in one.get("networks", {}).get("default", {}).get("aliases", ())
    ]
    assert {"mariadb", "mysql"} & set(services) == {profiles[0]}
    started: list[str] = []
    while left := [name for name in services if name not in started]:
        ready = [name for name in left if set(services[name]["depends_on"]) <= set(started)]
        assert ready, f"these wait for one another, or for what is not there: {left}"
        started += ready
    assert started.index(profiles[0]) < started.index("practice") < started.index("snapshot") < started.index("capture")


def test_the_reports_are_kept_and_can_be_written_by_the_account_of_the_image():
    *_, folder = SERVICES["reconcile"]["command"]
    for name in ("reconcile", "apply"):
        assert ("reports", folder) in mounts(SERVICES[name])
    assert f"install -d -o cdc {folder}" in (ROOT / "Dockerfile").read_text()


def test_every_service_of_ours_works_on_real_servers(mariadb, postgres, kafka, pipeline, tmp_path):
    """The commands as they stand, with the names of the services mapped to servers of this machine: an empty database ends up streaming."""
    made = pipeline(mariadb, postgres, kafka)
    text = (ROOT / "config/compose/pipeline.toml").read_text()
    for inside, here in (
        ("@source:3306/", f"@{mariadb.host}:{mariadb.port}/"), ("opendental.*", f"{mariadb.name}.*"),
        ('name = "od"', f'name = "{mariadb.name}"'),
        ("@postgres:5432/analytics", f"@{postgres.host}:{postgres.port}/{postgres.name}"),
        ('bootstrap = "kafka:29092"', f'bootstrap = "{kafka.bootstrap}"\nprefix = "{kafka.prefix}"'),
        ('registry = "http://registry:8081"\n', ""), ('"0.0.0.0:19187"\napply', '"127.0.0.1:0"\napply'),
        ('"0.0.0.0:19187"', '"127.0.0.1:0"'),
        ("server_id = 4201", f"server_id = {100_000 + mariadb.port}"),
    ):  # fmt: skip
        assert 1 == text.count(inside), inside
        text = text.replace(inside, here)
    made.path.write_text(text)
    assert 0 == practice(mariadb, "--size", "0.02")["rc"]
    again = practice(mariadb)
    assert (0, 0) == (again["rc"], again["total"])  # tables that are there are left alone
    order = [name for name in ("snapshot", "capture", "apply", "reconcile") if name in rendered(("mariadb", "reconcile"))]
    assert 0 == made.run(*OWN[order[0]]["command"]).returncode
    works = [made.start(*OWN[name]["command"]) for name in order[1:3]]
    mariadb.execute("DELETE FROM patient LIMIT 1")
    caught_up(made)
    command = [str(tmp_path) if word == "/reports" else word for word in OWN["reconcile"]["command"]]
    done = made.run("--json", *command)
    assert 0 == done.returncode, done.stdout[-2000:]
    assert ["html", "json"] == sorted(path.suffix[1:] for path in tmp_path.glob("reconcile-*"))
    assert all(one.alive for one in works)


def practice(source: SourceDatabase, *more: str) -> dict[str, Any]:
    """The service `practice` on a database of this machine."""
    service = OWN["practice"]
    url = service["environment"]["OPENDENTAL_URL"].replace("@source:3306/", f"@{source.host}:{source.port}/")
    url = re.sub(r"\$\{CDC_SOURCE_ADMIN_PASSWORD:[^}]*\}", PASSWORD, url)
    words: list[str] = [*service["entrypoint"], *service["command"], "--database", source.name, *more]
    assert "python" == words[0]
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=ROOT, env={**os.environ, "OPENDENTAL_URL": url}, capture_output=True, text=True, check=False
    )
    return {"rc": done.returncode, **json.loads(done.stdout or "{}")}


def test_the_mounted_pipeline_is_valid_and_names_services():
    environ = {key: str(value) for key, value in SERVICES["capture"]["environment"].items()}
    found = config.load(ROOT / "config" / "compose" / "pipeline.toml", environ)
    hosts = {found.source.url.host, found.target.url.host, found.transport.bootstrap.split(":")[0]}
    assert {"source", "postgres", "kafka"} == hosts
    assert f"http://registry:{inside_port(SERVICES['registry'])[0]}" == found.transport.registry
    assert "0.0.0.0:19187" == found.metrics.listen == found.metrics.apply_listen
    assert "127.0.0.1:19187" in str(SERVICES["capture"]["healthcheck"])


def test_prometheus_reads_our_services_and_grafana_reads_prometheus():
    scraped = yaml.safe_load((ROOT / "config/compose/prometheus.yml").read_text())
    targets = [target for job in scraped["scrape_configs"] for each in job["static_configs"] for target in each["targets"]]
    assert ["capture:19187", "apply:19187"] == targets
    source = yaml.safe_load((ROOT / "config/compose/grafana/datasources/prometheus.yml").read_text())
    assert ["http://prometheus:9090"] == [each["url"] for each in source["datasources"]]


def test_images_and_log_settings_are_those_of_the_local_stack(tmp_path):
    kinds: dict[str, type[stack.Server]] = {**stack.SOURCES, "postgres": stack.Postgres, "kafka": stack.Kafka}
    for name, kind in kinds.items():
        image = kind(tmp_path / name, Settings(mark="none")).image()
        assert image.name == SERVICES[name]["image"]
        if name in stack.SOURCES:
            wanted = {part for part in image.arguments if re.match(r"--(log-bin|binlog|sync-binlog|gtid|enforce|server-id)", part)}
            assert wanted == set(SERVICES[name]["command"])


def test_the_first_start_grants_what_the_local_stack_grants(tmp_path):
    script = (ROOT / "config/compose/source.sh").read_text()
    local = "\n".join(stack.MySql(tmp_path, Settings(mark="none")).statements())
    for privilege in ("REPLICATION SLAVE", "REPLICATION CLIENT", "XA_RECOVER_ADMIN", "SELECT", "LOCK TABLES"):
        assert privilege in script
        assert privilege in local


def test_the_image_starts_the_command_line_and_copies_only_what_exists():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["cdc"]' == lines[-1]
    copied = [word for line in lines if line.startswith("COPY ") and "--from" not in line for word in shlex.split(line)[1:-1]]
    assert [] == [word for word in copied if not (ROOT / word).exists()]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed
