"""Avro for Kafka Connect: Apicurio's converter, the one that packages have, and the registry that it asks."""

from __future__ import annotations

import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.chain import running
from bench.job import Failed
from cdc.stack import install
from cdc.stack.probe import HOST, free_port

HERE = Path(__file__).parent
_START_SECONDS = 600.0


def converter() -> Path:
    """The folder of its jars."""
    return install.maven("Apicurio's converter", HERE / "avro-pom.xml", install.cache() / "apicurio-converter-2.6.13")


def settings(url: str) -> Mapping[str, str]:
    """A worker's, with ids in the messages as Confluent's converter writes them."""
    found: dict[str, str] = {}
    for side in ("key", "value"):
        place = f"{side}.converter"
        found |= {
            place: "io.apicurio.registry.utils.converter.AvroConverter", f"{place}.apicurio.registry.url": f"{url}/apis/registry/v2",
            f"{place}.apicurio.registry.auto-register": "true", f"{place}.apicurio.registry.find-latest": "true",
            f"{place}.apicurio.registry.as-confluent": "true", f"{place}.apicurio.registry.headers.enabled": "false",
        }  # fmt: skip
    return found


@contextmanager
def registry(java: Path, folder: Path) -> Iterator[str]:
    """A registry that keeps everything in memory, for the length of the block; its address."""
    url = f"http://{HOST}:{(port := free_port())}"
    options = ("-Xmx512m", f"-Dquarkus.http.host={HOST}", f"-Dquarkus.http.port={port}")
    with running({"registry": (java, *options, "-jar", next(_unpacked().glob("*-runner.jar")))}, folder, {}) as processes:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(url):
            processes.check()
            if time.monotonic() > deadline:
                raise Failed(f"the registry did not answer within {_START_SECONDS:g} s")
            time.sleep(0.2)
        yield url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/apis/registry/v2/system/info", timeout=10.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _unpacked() -> Path:
    """The registry's folder; there whole or not at all."""
    folder = install.cache() / "apicurio-registry-2.6.13"
    if not folder.is_dir():
        archive = next(
            install.maven("Apicurio", HERE / "registry-pom.xml", install.cache() / "apicurio-registry-2.6.13-tar").glob("*.tar.gz")
        )
        draft = folder.with_name(f".{folder.name}-{os.getpid()}")
        with tarfile.open(archive) as tar:
            tar.extractall(draft, filter="data")
        draft.rename(folder)
        shutil.rmtree(archive.parent)
    return folder
