"""The recipe of a derived model: everything that its files, and the verdict on them, depend on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from buildkit.digest import FileHash, canonical_json
from buildkit.locks.derivation import Derivation, gate_table
from buildkit.locks.pins import DerivedFrom, Model, ModelFile

_FORMAT = 1  # raised when the same recipe makes other files
_BY_ITSELF = ("to-safetensors",)  # tools that use no library

Listing = list[list[str]]


def list_files(files: Iterable[ModelFile]) -> Listing:
    """Return ``[path, hash]`` of files, sorted, as in recipes."""
    return sorted([file.path, file.sha256.hex] for file in files)


def make_derived_from(
    derivation: Derivation,
    source: Model,
    libraries: Iterable[tuple[str, str]],
    read: Mapping[str, Listing],
    files: Iterable[str] = (),
) -> DerivedFrom:
    """Return what a derivation depends on now.

    ``read`` are the user's scripts and data, listed by how they are named; ``files`` those of the repository among
    them. Versions of libraries count, not their files: another processor has other wheels of the same versions.
    """
    used = () if derivation.tool in _BY_ITSELF else tuple(sorted(libraries))
    recipe = canonical_json(
        {
            "format": _FORMAT,
            "kind": "derive",
            "source": list_files(source.files),
            "tool": derivation.tool,
            "options": derivation.settings,
            "gate": gate_table(derivation.gate) if derivation.gate else {},
            "libraries": [list(pair) for pair in used],
            "read": dict(read),
        }
    )
    key = FileHash.of(recipe.encode())
    return DerivedFrom(source=source, recipe=recipe, key=key, files=tuple(files))
