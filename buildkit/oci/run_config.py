"""The part of an image config that a runtime acts on: user, command, environment and so on.

Its keys are those of the OCI image specification (config.md, "config") and Docker's Healthcheck. What an image inherits
follows ``FROM`` in a Containerfile; build triggers (ONBUILD) and the build's shell are not inherited, because they
concern Containerfiles alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buildkit.hostile_json import JsonValue

_MAX_ITEMS = 10_000
_MAX_NANOSECONDS = 1 << 62
_LISTS = ("Env", "Entrypoint", "Cmd")
_TEXTS = ("User", "WorkingDir", "StopSignal")
_SETS = ("ExposedPorts", "Volumes")
_TIMES = ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")

RunConfig = Mapping[str, Any]


def read_run_config(value: JsonValue | None) -> dict[str, Any]:
    """Read the run config of an image that others made, without what is null or empty; raises MalformedError."""
    if value is None:
        return {}
    config: dict[str, Any] = {}
    for key in _LISTS:
        config[key] = _texts(value.find(key))
    for key in _TEXTS:
        config[key] = _text(found) if (found := value.find(key)) else ""
    for key in _SETS:
        config[key] = {name: {} for name in _members(value.find(key))}
    config["Labels"] = {name: _text(label) for name, label in _members(value.find("Labels")).items()}
    config["Healthcheck"] = _healthcheck(found) if (found := value.find("Healthcheck")) else {}
    return {key: member for key, member in config.items() if member}


def inherit_config(below: RunConfig, above: RunConfig) -> dict[str, Any]:
    """Return ``above`` with what it inherits from ``below``.

    Ports, volumes and labels are added up, everything else is replaced. An entrypoint drops the command below, which
    was meant for another one. The environment is not added up here: see ``build.assemble``.
    """
    merged = {**below, **above}
    for key in (*_SETS, "Labels"):
        if key in below:
            merged[key] = dict(sorted({**below[key], **above.get(key, {})}.items()))
    if "Entrypoint" in above and "Cmd" not in above:
        merged.pop("Cmd", None)
    return merged


def _healthcheck(value: JsonValue) -> dict[str, Any]:
    times = {key: found.integer(0, _MAX_NANOSECONDS) for key in _TIMES if (found := value.find(key))}
    test = _texts(value.find("Test"))
    return {"Test": test, **times} if test else times


def _members(value: JsonValue | None) -> dict[str, JsonValue]:
    return value.members(_MAX_ITEMS) if value else {}


def _texts(value: JsonValue | None) -> list[str]:
    return [_text(item) for item in value.items(_MAX_ITEMS)] if value else []


def _text(value: JsonValue) -> str:
    text = value.text()
    if "\0" in text:
        raise value.error("contains a zero byte")
    return text
