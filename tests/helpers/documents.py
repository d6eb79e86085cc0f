"""The JSON Schemas of all documents, ready to hold a document against."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).resolve().parents[2] / "schemas" / "json"


def kinds() -> list[str]:
    """Every kind of document that has a schema."""
    return sorted(path.name.removesuffix(".schema.json") for path in FOLDER.glob("*.schema.json"))


def schema(kind: str) -> Any:
    return json.loads((FOLDER / f"{kind}.schema.json").read_text())


@cache
def validator(kind: str) -> Draft202012Validator:
    registry = Registry().with_resources([(f"{name}.schema.json", Resource.from_contents(schema(name))) for name in kinds()])
    return Draft202012Validator(schema(kind), registry=registry)


def faults(kind: str, document: object) -> list[str]:
    """What of the document breaks its schema."""
    return [f"{error.json_path}: {error.message}" for error in validator(kind).iter_errors(document)]
