"""Parse the JSON of an image's config. It is not trusted: values of a wrong type count as absent."""

from __future__ import annotations

from typing import Any

from buildkit.audit.view import HistoryLine, ImageConfig
from buildkit.errors import BuildError
from buildkit.hostile_json import MalformedError
from buildkit.oci.manifest import parse_config_json

_MOST = 2000  # entries of any list; an honest config has far fewer


def parse_config(data: bytes, name: str) -> ImageConfig:
    """Parse a config (OCI image specification, with Docker's Healthcheck); raises BuildError if it is malformed."""
    try:
        value = parse_config_json(data, "its config").raw_object()
    except MalformedError as error:
        raise BuildError(f"{name}: {error}") from error
    runs = _object(value.get("config"))
    health = _object(runs.get("Healthcheck")).get("Test")
    return ImageConfig(
        user=_text(runs.get("User")),
        workdir=_text(runs.get("WorkingDir")),
        entrypoint=_texts(runs.get("Entrypoint")),
        cmd=_texts(runs.get("Cmd")),
        env=tuple((line.partition("=")[0], line.partition("=")[2]) for line in _texts(runs.get("Env"))),
        ports=tuple(sorted(map(str, _object(runs.get("ExposedPorts")))))[:_MOST],
        volumes=tuple(sorted(map(str, _object(runs.get("Volumes")))))[:_MOST],
        labels=tuple((key, _text(text)) for key, text in _object(runs.get("Labels")).items())[:_MOST],
        healthcheck=(_texts(health) or None) if isinstance(health, list) else None,  # an empty list is not a check
        history=tuple(_line(entry) for entry in _list(value.get("history"))),
        arch=_text(value.get("architecture")),
    )


def _line(value: Any) -> HistoryLine:  # noqa: ANN401 - JSON
    entry = _object(value)
    return HistoryLine(
        created_by=_text(entry.get("created_by")),
        comment=_text(entry.get("comment")),
    )


def _object(value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    return value[:_MOST] if isinstance(value, list) else []


def _texts(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return (value,)
    return tuple(text for text in _list(value) if isinstance(text, str))


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    return value if isinstance(value, str) else ""
