"""Read a pipeline's file and report everything that is wrong with it at once, showing no secret.

`${NAME}` is put in here, into the parts of a URL or into a whole string, and errors show the text as it was written.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from cdc.config.settings import (
    ApplyConfig,
    Config,
    MetricsConfig,
    PipelineConfig,
    PoliciesConfig,
    PolicyKeys,
    SnapshotConfig,
    SourceConfig,
    TargetConfig,
    TransportConfig,
)
from cdc.config.values import SECRET_WORDS, VARIABLE, ServerUrl, substitute
from cdc.errors import Refused

__all__ = [
    "ApplyConfig",
    "Config",
    "ConfigRefused",
    "MetricsConfig",
    "PipelineConfig",
    "PoliciesConfig",
    "Problem",
    "ServerUrl",
    "SnapshotConfig",
    "SourceConfig",
    "TargetConfig",
    "TransportConfig",
    "keys_of",
    "load",
]

_URLS = {("source", "url"), ("target", "url")}
_HINT = "config/pipeline.toml is the annotated reference of every key"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: which key, the value as written (secrets masked), and the rule that it breaks."""

    key: str
    value: str
    rule: str

    def __str__(self) -> str:
        return f"{self.key}{' = ' + self.value if self.value else ''}: {self.rule}"


class ConfigRefused(Refused):
    """The file does not hold: every problem at once."""

    def __init__(self, place: str, problems: list[Problem], hint: str = _HINT) -> None:
        self.problems = problems
        super().__init__("config", place, "; ".join(map(str, problems)), hint)

    def document(self) -> dict[str, Any]:
        problems = [{"key": one.key, "value": one.value, "rule": one.rule} for one in self.problems]
        return {"error": {**super().document()["error"], "problems": problems}}


def load(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Config:
    """The checked configuration of a file; Refused("config") with every problem when it does not hold."""
    written = read(Path(path))
    problems: list[Problem] = []
    filled = _fill(written, (), dict(os.environ if environ is None else environ), problems)
    problems += _missing_files(filled)
    config = _validated(filled, written, problems)
    if config is None or problems:
        raise ConfigRefused(str(path), problems)
    return config


def read(path: Path) -> dict[str, Any]:
    """The file's tables as written; Refused when it is missing, unreadable or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(
            "config", str(path), "the file does not exist", "name it with --config; config/pipeline.toml is a model"
        ) from None
    except OSError as error:
        raise Refused(
            "config", str(path), f"the file cannot be read: {os.strerror(error.errno or 0)}", "check its permissions"
        ) from None
    except UnicodeDecodeError:
        raise Refused("config", str(path), "the file is not UTF-8 text", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise Refused(
            "config", str(path), f"the file is not TOML: {error}", "https://toml.io shows the syntax"
        ) from None


def _validated(filled: Any, written: dict[str, Any], problems: list[Problem]) -> Config | None:
    try:
        return Config.model_validate(filled)
    except ValidationError as error:
        known = {problem.key for problem in problems}
        found = [
            _problem(detail, written)
            for detail in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        problems += [problem for problem in found if problem.key not in known]
        return None


def _fill(value: Any, path: tuple[str, ...], environ: dict[str, str], problems: list[Problem]) -> Any:
    if isinstance(value, dict):
        return {name: _fill(inner, (*path, name), environ, problems) for name, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, path, environ, problems) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        return _filled_text(value, path, environ)
    except ValueError as error:
        problems.append(Problem(".".join(path), shown(path, value), str(error)))
        return value


def _filled_text(text: str, path: tuple[str, ...], environ: dict[str, str]) -> Any:
    if path in _URLS:
        return ServerUrl.parse(text, environ)
    if path == ("transport", "registry"):  # stays one text, so what a variable holds is percent-encoded into it
        return substitute(text, {name: quote(value, safe=":.-_~") for name, value in environ.items()})
    return substitute(text, environ)


def _missing_files(filled: dict[str, Any]) -> list[Problem]:
    """Certificates and keys that are named must be there: found before anything is started."""
    source, target = filled.get("source"), filled.get("target")
    named = (
        [(f"source.{key}", source.get(key)) for key in ("ssl_ca", "ssl_cert", "ssl_key")]
        if isinstance(source, dict)
        else []
    )
    url = target.get("url") if isinstance(target, dict) else None
    if isinstance(url, ServerUrl):
        named += [(f"target.url ?{key}", url.options.get(key)) for key in ("sslrootcert", "sslcert", "sslkey")]
    return [
        Problem(key, repr(path), "the file does not exist")
        for key, path in named
        if path and isinstance(path, str) and path != "system" and not Path(path).is_file()
    ]


def _problem(detail: Mapping[str, Any], written: dict[str, Any]) -> Problem:
    path = tuple(str(step) for step in detail["loc"])
    return Problem(".".join(path) or "(the file)", _value_at(path, written), _rule(detail, path))


def _rule(detail: Mapping[str, Any], path: tuple[str, ...]) -> str:
    if detail["type"] == "missing":
        return "is required"
    if detail["type"] == "extra_forbidden":
        return "is not a known key" + _suggestion(path)
    if detail["type"] == "too_short":
        return "must not be empty"
    if detail["type"] == "tuple_type":
        return 'must be a list in brackets, such as ["database.table"]'
    text = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return re.sub(r"a valid dictionary or instance of \w+", "a table", text)


def _suggestion(path: tuple[str, ...]) -> str:
    keys = keys_of(Config)
    if path[:2] == ("policies", "columns") and len(path) == 4:
        keys = [".".join((*path[:3], name)) for name in keys_of(PolicyKeys)]
    near = difflib.get_close_matches(".".join(path), keys, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def keys_of(model: type[BaseModel], path: str = "") -> list[str]:
    """Every key of the configuration, dotted, sections included, in the order of the models."""
    keys: list[str] = []
    for name, info in model.model_fields.items():
        key = path + (info.alias or name)
        inner = info.annotation
        keys += [key, *keys_of(inner, key + ".")] if isinstance(inner, type) and issubclass(inner, BaseModel) else [key]
    return keys


def _value_at(path: tuple[str, ...], written: Any) -> str:
    value = written
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list | tuple) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return ""
    return "" if isinstance(value, dict) else shown(path, value)


def shown(path: tuple[str, ...], value: Any) -> str:
    """A value as written, for an error: variables by name, passwords never."""
    if path[:2] in (("source", "url"), ("target", "url"), ("transport", "registry")):
        return repr(_masked_url(value)) if isinstance(value, str) else "(not shown)"
    if any(word in ".".join(path).lower() for word in SECRET_WORDS) and not (
        isinstance(value, str) and VARIABLE.fullmatch(value)
    ):
        return "***"
    return repr(value)


def _masked_url(text: str) -> str:
    head, found, rest = text.partition("://")
    if not found:
        return text if VARIABLE.fullmatch(text) else "(not shown)"
    credentials, at, place = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    hidden = password if VARIABLE.fullmatch(password) else "***"
    place = place.partition("?")[0]
    return f"{head}://{user}{colon}{hidden if colon else ''}{at}{place}" if at else f"{head}://***"
