"""docker-compose.yml can be trusted by people who have an engine: what it names exists, and it is closed to the outside."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cdc import stack
from cdc.cli.main import cli
from cdc.config import load as config
from cdc.stack import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OWN = {name: service for name, service in SERVICES.items() if "build" in service}
ENV_EXAMPLE = (ROOT / "config" / "compose" / "env.example").read_text()
KEYS = {"image", "build", "command", "environment", "volumes", "ports", "healthcheck", "depends_on", "restart", "profiles"}
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
    if service.get("restart") == "on-failure":
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
        assert "profiles" not in waited
        ends = waited.get("restart") == "on-failure"
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
    plain = re.sub(r"\$\$", "", TEXT)
    assert [] == re.findall(r"\$(?!\{\w+:[?-])", plain)


def test_no_password_is_written_down():
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            assert "PASSWORD" not in key or str(value).startswith("${"), key


@pytest.mark.parametrize("name", OWN)
def test_our_services_run_commands_of_our_command_line(name):
    commands = set(typer.main.get_command(cli).commands)  # type: ignore[attr-defined]
    *options, command = OWN[name]["command"]
    assert command in commands
    assert ["--config", "/etc/cdc/pipeline.toml"] == options
    assert "/etc/cdc/pipeline.toml" in {inside for _, inside in mounts(OWN[name])}


def test_the_commands_that_the_product_needs_are_all_there():
    assert {"snapshot", "capture", "apply", "dashboard"} == {service["command"][-1] for service in OWN.values()}


def test_the_mounted_pipeline_is_valid_and_names_services():
    environ = {key: str(value) for key, value in SERVICES["capture"]["environment"].items()}
    environ["CDC_SOURCE_HOST"] = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", environ["CDC_SOURCE_HOST"])
    found = config.load(ROOT / "config" / "compose" / "pipeline.toml", environ)
    hosts = {found.source.url.host, found.target.url.host, found.transport.bootstrap.split(":")[0]}
    assert {"mariadb", "postgres", "kafka"} == hosts
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
