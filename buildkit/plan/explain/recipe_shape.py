"""The shape that each part of a recipe must have to be compared in detail.

Recipes of one format have one shape, but an older buildkit or a foreign machine may have written other parts. A part
of another shape is only reported as changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from buildkit.plan.spec import Kind

_MODES = ("file", "exec", "link")


def has_known_shape(kind: Kind, part: str, value: object) -> bool:
    """Tell whether the value of a part of a layer's recipe can be compared in detail."""
    return (_SHAPES_OF_KIND.get((kind, part)) or _SHAPES[part])(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_env(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_listing(value: object) -> bool:
    """``[path, mode, hash or target]`` of each file."""
    return isinstance(value, list) and all(_is_texts(row) and len(row) == 3 and row[1] in _MODES for row in value)


def _is_model_files(value: object) -> bool:
    """``[path, hash]`` of each file."""
    return isinstance(value, list) and all(_is_texts(row) and len(row) == 2 for row in value)


def _is_hub_snapshot(value: object) -> bool:
    """The commit, its refs, and ``[path, blob]`` of each file."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("commit"), str)
        and _is_texts(value.get("refs"))
        and _is_model_files(value.get("files"))
    )


def _is_rows(value: object) -> bool:
    """Lists of texts, one of each layer or model that an SBOM lists."""
    return isinstance(value, list) and all(_is_texts(row) and row for row in value)


def _is_mounts(value: object) -> bool:
    """``[target, listing]`` of each mount."""
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and _is_listing(row[1]) for row in value
    )


def _is_users(value: object) -> bool:
    """``[name, uid, gid, home, shell]`` of each account."""
    kinds = [str, int, int, str, str]
    return isinstance(value, list) and all(
        isinstance(row, list) and [type(item) for item in row] == kinds for row in value
    )


def _is_wheels(value: object) -> bool:
    """``{"name", "version", "sha256" or "compiled"}`` of each wheel."""
    return isinstance(value, list) and all(_is_env(row) and {"name", "version"} <= row.keys() for row in value)


def _is_compiler(value: object) -> bool:
    """Pins of the interpreter that compiles bytecode, or keys of its root; null for no bytecode."""
    return value is None or _is_texts(value)


def _is_settings(value: object) -> bool:
    """Tables of settings of frameworks, and whether threads are set."""
    return isinstance(value, dict) and all(isinstance(table, dict | bool) for table in value.values())


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


_SHAPES: Mapping[str, Callable[[object], bool]] = {
    "bytecode": _is_compiler,
    "command": _is_texts,
    "components": _is_texts,
    "context": _is_listing,
    "env": _is_env,
    "exclude": _is_texts,
    "files": _is_listing,
    "image": _is_text,
    "layers": _is_rows,
    "models": _is_rows,
    "module": _is_model_files,
    "mounts": _is_mounts,
    "packages": _is_texts,
    "parent": _is_text,
    "settings": _is_settings,
    "users": _is_users,
    "wheels": _is_wheels,
}
_SHAPES_OF_KIND: Mapping[tuple[Kind, str], Callable[[object], bool]] = {
    (Kind.MODEL, "files"): _is_model_files,
    (Kind.MODEL, "hub"): _is_hub_snapshot,
    (Kind.ROOT, "bytecode"): _is_switch,
}
