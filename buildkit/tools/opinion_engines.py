"""The other scanners of models that are installed, with their versions; found in every build, so not imported."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from buildkit.lazy_dataclass import dataclass

ENGINES = {"picklescan": "picklescan", "modelaudit-picklescan": "modelaudit_picklescan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Another scanner: name and version of its distribution."""

    name: str
    version: str


def find_engines() -> tuple[Engine, ...]:
    """Return the scanners that can be imported."""
    specs = {name: find_spec(module) for name, module in ENGINES.items()}
    return tuple(Engine(name=name, version=_version(name, spec.origin or "")) for name, spec in specs.items() if spec)


def _version(name: str, origin: str) -> str:
    """Return the version that the folder of the distribution's metadata names; empty if there is none."""
    begin, folder = f"{name.replace('-', '_')}-", Path(origin).parent.parent
    found = (entry for entry in os.listdir(folder) if entry.startswith(begin) and entry.endswith(".dist-info"))  # noqa: PTH208
    return next((entry.removeprefix(begin).removesuffix(".dist-info") for entry in found), "")
