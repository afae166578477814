"""Decide by content whether a lock is older than its inputs: every lock names the hash of its inputs.

The hash ignores comments, blank lines and trailing spaces.
"""

from __future__ import annotations

import re

from buildkit.declare.target import Target
from buildkit.digest import FileHash, canonical_json
from buildkit.errors import Problem
from buildkit.locks.requirement_inputs import Parts, Read, collect_inputs, find_places, is_moved, normalise_text

_HEADER = re.compile(r"^# buildkit inputs sha256:([0-9a-f]{64})\s*$", re.MULTILINE)

_PYTHON = re.compile(r"^# buildkit python ([0-9.]+)\s*$", re.MULTILINE)
_SYSTEM = re.compile(r"^# buildkit system sha256:([0-9a-f]{64})\s*$", re.MULTILINE)
_FORMS = re.compile(r"\b(?:no|only)-binary|\bno-build\b")  # options and settings that say which files are allowed


def render_header(inputs: FileHash, release: str = "") -> str:
    """Render the first lines of a lock made from ``inputs`` for a ``release`` of Python (``3.13.5``), if known."""
    return f"# buildkit inputs {inputs}\n" + (render_release(release) if release else "")


def render_system(packages: str) -> str:
    """Render the line of a lock that names, by their hash, the packages of the root on which it stands."""
    return f"# buildkit system sha256:{packages}\n" if packages else ""


def render_release(release: str) -> str:
    """Render the line of a lock that names the release of Python for which it was made."""
    return f"# buildkit python {release}\n"


def find_inputs(lock: str) -> FileHash | None:
    """Return the hash in the lock's header, or None."""
    found = _HEADER.search(lock[:4096])
    return FileHash(found[1]) if found else None


def read_inputs(lock: str, file: str, problems: list[Problem]) -> FileHash | None:
    """Return the hash in the header of the lock ``file``; that it has none is added to ``problems``."""
    if (found := find_inputs(lock)) is None:
        problems.append(Problem(file=file, what="does not say what it was made from", hint="run: nox -s lock"))
    return found


def find_release(lock: str) -> str:
    """Return the release of Python for which a requirements lock was made, or the empty string."""
    found = _PYTHON.search(lock[:4096])
    return found[1] if found else ""


def check_fresh(
    file: str, lock: str | None, expected: FileHash, release: str | None = None, system: str = ""
) -> Problem | None:
    """Return the problem of ``file``, whose text is ``lock`` (None: missing), unless it was made from ``expected``.

    ``release`` is that of the images' Python, empty if it is not known; None for a lock that does not depend on it.
    ``system`` is the hash of the packages of the root on which it must stand.
    """
    if lock is None:
        return Problem(file=file, what="the lock is missing", hint="run: nox -s lock")
    actual = find_inputs(lock)
    if actual is None:
        return Problem(file=file, what="the lock does not say what it was made from", hint="run: nox -s lock")
    if actual != expected:
        return Problem(file=file, what="the lock is older than its input", hint="run: nox -s lock")
    if release is not None and (what := _check_release(lock, release)):
        return Problem(file=file, what=what, hint="run: nox -s lock")
    found = _SYSTEM.search(lock[:4096])
    if (found[1] if found else "") != system:
        what = "the lock was made for a root with other Python packages"
        return Problem(file=file, what=what, hint="run: nox -s lock")
    return None


def _check_release(lock: str, release: str) -> str:
    made_for = find_release(lock)
    if made_for == release:
        return ""
    if made_for:
        now = f"and the images have {release}" if release else "which not all images that use it are known to have"
        return f"the lock is for Python {made_for}, {now}"
    # earlier locks name no release, and those that depend on none are as good
    minor = re.escape(release.rpartition(".")[0])
    if re.search(rf"^[^#\n]*(?:python_full|implementation)_version[^\n]*['\"]{minor}\b", lock, re.MULTILINE):
        return f"the lock does not name the release of Python that its markers depend on; the images have {release}"
    return ""


def requirements_inputs(file: str, read: Read, target: Target, *, locker: str) -> FileHash:
    """Hash the inputs of a requirements lock: all that the locker reads in the checkout, and the target's Python."""
    parts = collect_inputs(file, read, locker)
    settings = {"python": target.python, "locker": locker}
    if any(_FORMS.search(text) for _, text in parts):
        settings["forms"] = "in the lock"  # earlier locks do not say them
    if locker == "uv" and _has_moved_paths(file, read, parts):
        settings["paths"] = "relative to the checkout"  # earlier locks have them as they are written
    if locker == "uv" and _has_sources(file, read, parts):
        settings["sources"] = "of inputs"  # earlier locks took these projects from any index
    return _hash("requirements", parts, **settings)


def _has_moved_paths(file: str, read: Read, parts: Parts) -> bool:
    if not any("sources" in text for _, text in parts):
        return False  # the quick check: most have none
    return any(is_moved(written, folders) for written, folders in find_places(file, read).items())


def _has_sources(file: str, read: Read, parts: Parts) -> bool:
    if not any("sources" in text for _, text in parts):
        return False
    from buildkit.locks.uv_sources import find_sourced  # slow to load and seldom needed

    return bool(find_sourced(file, read))


def wheels_inputs(lock: str, target: Target) -> FileHash:
    """Hash the inputs of a wheels lock: the pins of the requirements ``lock`` (its text) and the whole target."""
    words = {"python": find_release(lock) or target.python, "glibc": target.glibc, "arch": target.arch}
    return _hash("wheels", [("lock", normalise_text(lock))], **words)


def apt_inputs(text: str, *, base: str = "", **settings: str) -> FileHash:
    """Hash the inputs of an apt lock: list, ``base`` (text of the lock underneath) and settings such as ``suite``."""
    return _hash("apt", [("list", normalise_text(text)), ("base", normalise_text(base))], **settings)


def models_inputs(text: str) -> FileHash:
    """Hash the input of a models lock. The bytes of ``path:`` models are checked when they are read."""
    return _hash("models", [("models", normalise_text(text))])


def _hash(kind: str, parts: list[tuple[str, str]], **settings: str) -> FileHash:
    return FileHash.of(canonical_json({"kind": kind, "parts": parts, "settings": settings}).encode())
