"""Choose the root for a ``FROM``: Debian's packages where they have that Python, else the registry's image. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildkit.adopt.draft import RootDraft


@dataclass(frozen=True, slots=True)
class _Suite:
    """A release of Debian: its suite, its Python and its C library."""

    suite: str
    number: str
    python: str
    glibc: str


_SUITES = (_Suite("trixie", "13", "3.13", "2.41"), _Suite("bookworm", "12", "3.11", "2.36"))
_NEWEST = _SUITES[0]
_PYTHON_IMAGE = re.compile(r"(?:docker\.io/)?(?:library/)?python:(?P<python>3\.\d+)(?:\.\d+)?(?P<rest>(?:-[a-z0-9]+)*)")
_UV_IMAGE = re.compile(r"ghcr\.io/astral-sh/uv:(?:[\d.]+-)?python(?P<python>3\.\d+)(?P<rest>(?:-[a-z0-9]+)*)")
_DEBIAN_IMAGE = re.compile(r"(?:docker\.io/)?(?:library/)?debian:(?P<release>[a-z]+|\d+)(?:[.\d]*)(?:-slim|-\d{8}\S*)?")


def choose_root(image: str, wanted_python: str) -> RootDraft:
    """Return the root for an image as ``FROM`` names it, without a digest.

    ``wanted_python`` is the minor version that the project asks for, empty if it does not. An image of CPython whose
    version a suite of Debian has becomes that suite; any other becomes a root from its registry.
    """
    name = image.partition("@")[0]
    found = _PYTHON_IMAGE.fullmatch(name) or _UV_IMAGE.fullmatch(name)
    if found and "alpine" not in found["rest"]:
        python = found["python"]
        suite = next((s for s in _SUITES if s.python == python), None)
        if suite is not None:
            return _debian(suite)
        glibc = next((s.glibc for s in _SUITES if s.suite in found["rest"]), _NEWEST.glibc)
        return RootDraft(image=image, python=python, glibc=glibc, interpreter=f"/usr/local/bin/python{python}")
    debian = _DEBIAN_IMAGE.fullmatch(name)
    if debian:
        known = (s for s in _SUITES if debian["release"] in (s.suite, s.number, "stable" if s is _NEWEST else ""))
        suite = next(known, None)
        if suite is not None:
            return _debian(suite)
    python = wanted_python or _NEWEST.python
    return RootDraft(image=image, python=python, glibc=_NEWEST.glibc, interpreter=f"/usr/bin/python{python}")


def choose_without_file(wanted_python: str) -> RootDraft | None:
    """Return the root for a project without a Containerfile; None if no suite of Debian has its Python."""
    suite = next((s for s in _SUITES if wanted_python in ("", s.python)), None)
    return _debian(suite) if suite else None


def _debian(suite: _Suite) -> RootDraft:
    interpreter = f"/usr/bin/python{suite.python}"
    return RootDraft(suite=suite.suite, python=suite.python, glibc=suite.glibc, interpreter=interpreter)
