"""Read a YAML file of a repository as plain values, with the line of each key. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from buildkit.declare.yaml_growth import verify_growth
from buildkit.errors import DefinitionError

_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class YamlFile:
    """The value of a file, and the line of each key and item by its path, counted from 1."""

    value: Any
    lines: dict[tuple[str, ...], int]

    def line(self, *path: str) -> int:
        """Return the line of a key, or of the nearest one above it; 0 if there is none."""
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), 0)


def parse_yaml(text: str, file: str) -> YamlFile:
    """Parse a file that another tool reads; tags have no effect. Raises DefinitionError."""
    try:
        if len(text) > _LONGEST:
            raise yaml.YAMLError("it is too long")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            verify_growth(node)
            lines = dict(_find_lines(node, ()))
            value = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DefinitionError(f"{file}: it cannot be read: {' '.join(str(error).split())}") from error
    return YamlFile(value, lines)


def as_table(value: object) -> dict[str, Any]:
    """Return a mapping with its keys as text; empty for other values."""
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return a sequence; empty for other values."""
    return value if isinstance(value, list) else []


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Plain values; a tag of an application, such as ``!reset``, leaves the value as it is."""


def _construct_tagged(loader: _Loader, _: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else None


_Loader.add_multi_constructor("!", _construct_tagged)


def _find_lines(node: yaml.Node | None, path: tuple[str, ...], depth: int = 8) -> Iterator[tuple[tuple[str, ...], int]]:
    if depth and isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _find_lines(value, here, depth - 1)
    elif depth and isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            here = (*path, str(number))
            yield here, value.start_mark.line + 1
            yield from _find_lines(value, here, depth - 1)
