"""Look at a repository: what says how its image is made, and which of its files are models."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.adopt.compose import COMPOSE_FILES
from buildkit.adopt.conda import ENVIRONMENT_FILES, parse_environment
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
    folder; ``exact`` is whether ``python`` is pinned rather than a lower bound. ``containerfile`` and ``compose`` are
    paths of what was found, empty if there is none.
    """

    folder: Path
    containerfile: str
    compose: str
    python: str
    exact: bool
    models: Mapping[str, tuple[str, ...]]
    requirement_files: tuple[str, ...]

    def exists(self, path: str) -> bool:
        """Return whether a path is in the repository; one that ends in a slash must be a folder."""
        place = self.folder / path
        return place.is_dir() if path.endswith("/") else place.exists()

    def read(self, path: str) -> str:
        """Return the text of a file, empty if there is none."""
        return _read(self.folder / path)

    def find(self, pattern: str) -> tuple[str, ...]:
        """Return the paths that a pattern of ``COPY`` matches, sorted."""
        if posixpath.isabs(pattern) or ".." in pattern.split("/"):
            return ()
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.glob(pattern))
        return tuple(sorted(path for path in found if path.partition("/")[0] != ".git"))

    def is_executable(self, path: str) -> bool:
        """Return whether a file may be executed, which git keeps."""
        place = self.folder / path
        return place.is_file() and os.access(place, os.X_OK) and bool(place.stat().st_mode & 0o100)

    def read_ignore_rules(self, containerfile: str, context: str) -> str:
        """Return the rules for what stays out of a build, those of a folder below relative to the repository."""
        text = self.read(f"{containerfile}.dockerignore") or self.read(posixpath.join(context, ".dockerignore"))
        if context == ".":
            return text
        lines = (line.strip() for line in text.splitlines())
        return "".join(f"{_below(context, line)}\n" for line in lines if line and not line.startswith("#"))


def _below(context: str, rule: str) -> str:
    keeps = "!" if rule.startswith("!") else ""
    return f"{keeps}{posixpath.join(context, rule.removeprefix('!').lstrip('/'))}"


def survey(folder: Path) -> Survey:
    """Look at ``folder``. Raises DefinitionError if its pyproject.toml is no TOML, or a file is no text."""
    found = next((name for name in CONTAINERFILES if (folder / name).is_file()), "")
    environment = next((name for name in ENVIRONMENT_FILES if (folder / name).is_file()), "")
    about = parse_toml(_read(folder / "pyproject.toml"), "pyproject.toml")
    python, exact = _find_python(folder, about)
    if environment and not exact:
        minor = parse_environment(_read(folder / environment), environment).python
        python, exact = (minor, True) if minor else (python, exact)
    requirements = sorted(path.name for path in folder.glob("requirements*.txt"))
    return Survey(
        folder=folder,
        containerfile=found,
        compose=next((name for name in COMPOSE_FILES if (folder / name).is_file()), ""),
        python=python,
        exact=exact,
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
