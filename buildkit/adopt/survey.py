"""Look at a repository: what says how its image is made, and which of its files are models."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.declare.toml import parse_toml
from buildkit.errors import DefinitionError

CONTAINERFILES = ("Containerfile", "Dockerfile", "docker/Dockerfile", "deploy/Dockerfile", ".docker/Dockerfile")
MODEL_SUFFIXES = (
    ".onnx", ".safetensors", ".pt", ".pth", ".joblib", ".gguf", ".bin", ".pkl", ".h5", ".keras", ".tflite", ".ubj",
)  # fmt: skip
_LEAST_MODEL_BYTES = 64 << 10  # a smaller `.bin` or `.pkl` is as likely a fixture
_SKIPPED = {".git", ".venv", "venv", "node_modules", "__pycache__", ".nox", ".tox", "site-packages", ".mypy_cache"}
_PYTHON = re.compile(r"(?:cpython-?|python-?)?(3\.\d+)(?:\.\d+)?")
_LEAST = re.compile(r"(?:>=|~=|==|\^)\s*(3\.\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A repository as `nox -s init` sees it.

    ``python`` is the minor version that it asks for, empty if it does not. ``models`` are paths of model files by their
    folder; ``exact`` is whether ``python`` is pinned rather than a lower bound.
    """

    folder: Path
    containerfile: str
    dockerignore: str
    python: str
    exact: bool
    name: str
    models: Mapping[str, tuple[str, ...]]
    requirement_files: tuple[str, ...]

    def exists(self, path: str) -> bool:
        """Return whether a path is in the repository; one that ends in a slash must be a folder."""
        place = self.folder / path
        return place.is_dir() if path.endswith("/") else place.exists()

    def read(self, path: str) -> str:
        """Return the text of a file, empty if there is none."""
        return _read(self.folder / path)


def survey(folder: Path, containerfile: str = "") -> Survey:
    """Look at ``folder``; ``containerfile`` names the file, relative to it, instead of those that are looked for.

    Raises DefinitionError if that file is not there, or pyproject.toml is no TOML.
    """
    if containerfile and not (folder / containerfile).is_file():
        raise DefinitionError(f"{containerfile}: there is no such file", hint="name a Containerfile: --file PATH")
    found = containerfile or next((name for name in CONTAINERFILES if (folder / name).is_file()), "")
    about = parse_toml(_read(folder / "pyproject.toml"), "pyproject.toml")
    python, exact = _find_python(folder, about)
    requirements = sorted(path.name for path in folder.glob("requirements*.txt"))
    return Survey(
        folder=folder,
        containerfile=found,
        dockerignore=_read(folder / f"{found}.dockerignore") or _read(folder / ".dockerignore"),
        python=python,
        exact=exact,
        name=folder.name,
        models=_find_models(folder),
        requirement_files=tuple(requirements),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path.name}: it cannot be read: {error}") from error


def _find_python(folder: Path, about: Mapping[str, object]) -> tuple[str, bool]:
    first = _read(folder / ".python-version").split()
    if first and (found := _PYTHON.fullmatch(first[0])):
        return found[1], True
    project = about.get("project")
    tool = about.get("tool")
    poetry = tool.get("poetry") if isinstance(tool, dict) else None
    dependencies = poetry.get("dependencies") if isinstance(poetry, dict) else None
    texts = (
        project.get("requires-python") if isinstance(project, dict) else None,
        dependencies.get("python") if isinstance(dependencies, dict) else None,
    )
    for text in texts:
        if isinstance(text, str) and (found := _LEAST.search(text)):
            return found[1], "==" in text
    return "", False


def _find_models(folder: Path) -> dict[str, tuple[str, ...]]:
    models: dict[str, tuple[str, ...]] = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        found = tuple(name for name in sorted(names) if _is_model(Path(parent) / name))
        if found:
            models[os.path.relpath(parent, folder)] = found
    return models


def _is_model(path: Path) -> bool:
    return path.suffix in MODEL_SUFFIXES and path.is_file() and path.stat().st_size >= _LEAST_MODEL_BYTES
