"""Choose the root for a ``FROM``: Debian's packages where they have that Python, else the registry's image. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from buildkit.adopt.draft import RootDraft
from buildkit.declare.image_names import full_name


@dataclass(frozen=True, slots=True)
class _Suite:
    """A release of Debian: its suite, its Python and its C library."""

    suite: str
    number: str
    python: str
    glibc: str


_SUITES = (_Suite("trixie", "13", "3.13", "2.41"), _Suite("bookworm", "12", "3.11", "2.36"))
_NEWEST = _SUITES[0]
_SYSTEMS = (  # what a tag says about the system below: C library and Python
    (re.compile(r"ubuntu[-:]?2404|ubuntu[-:]?24\.04|noble"), "2.39", "3.12"),
    (re.compile(r"ubuntu[-:]?2204|ubuntu[-:]?22\.04|jammy"), "2.35", "3.10"),
    (re.compile(r"ubuntu[-:]?2004|ubuntu[-:]?20\.04|focal"), "2.31", "3.8"),
    (re.compile(r"trixie"), "2.41", "3.13"),
    (re.compile(r"bookworm"), "2.36", "3.11"),
    (re.compile(r"bullseye"), "2.31", "3.9"),
    (re.compile(r"(?:ubi|rockylinux:?|almalinux:?)9|ubi9"), "2.34", "3.9"),
    (re.compile(r"(?:ubi|rockylinux:?|almalinux:?)8|ubi8"), "2.28", "3.6"),
)
_HUB = r"(?:(?:docker\.io|index\.docker\.io|public\.ecr\.aws/docker|mirror\.gcr\.io)/)?(?:library/)?"
_PYTHON_IMAGE = re.compile(_HUB + r"python:(?P<python>3\.\d+)(?:\.\d+)?(?P<rest>(?:-[a-z0-9.]+)*)")
_UV_IMAGE = re.compile(r"ghcr\.io/astral-sh/uv:(?:[\d.]+-)?python(?P<python>3\.\d+)(?P<rest>(?:-[a-z0-9.]+)*)")
_DEBIAN_IMAGE = re.compile(_HUB + r"debian:(?P<release>[a-z]+|\d+)(?:[.\d]*)(?:-slim|-\d{8}\S*)?")
_ALPINE = re.compile(_HUB + r"alpine(?::.*)?")
_CONDA = re.compile(
    r"(?:docker\.io/)?(?:continuumio/(?:mini|ana)conda3|condaforge/(?:miniforge\w*|mambaforge\w*)|mambaorg/micromamba|"
    r"conda/\w+)(?::.*)?"
)
_WITH_PACKAGES = re.compile(
    r"(?:\S*/)?(?P<package>pytorch|tensorflow)(?:/\w+)?:(?P<version>\d+\.\d+\.\d+)?(?P<rest>.*)"
)


def choose_root(image: str, wanted_python: str) -> RootDraft:
    """Return the root for an image as ``FROM`` names it, without a digest.

    ``wanted_python`` is the minor version that the project asks for, empty if it does not. An image of CPython whose
    version a suite of Debian has becomes that suite; any other becomes a root from its registry. Debian and its images
    stand in for Alpine and for conda.
    """
    name = image.partition("@")[0]
    found = _PYTHON_IMAGE.fullmatch(name) or _UV_IMAGE.fullmatch(name)
    if found:
        return _python_root(image if "alpine" not in found["rest"] else "", found["python"], found["rest"])
    debian = _DEBIAN_IMAGE.fullmatch(name)
    if debian:
        known = (s for s in _SUITES if debian["release"] in (s.suite, s.number, "stable" if s is _NEWEST else ""))
        suite = next(known, None)
        if suite is not None:
            return _debian(suite)
    if _ALPINE.fullmatch(name) or _CONDA.fullmatch(name):
        return _python_root("", wanted_python or _NEWEST.python, "")
    glibc, python = next(
        ((glibc, python) for tag, glibc, python in _SYSTEMS if tag.search(name)), (_NEWEST.glibc, _NEWEST.python)
    )
    python = wanted_python or python
    return RootDraft(image=full_name(image), python=python, glibc=glibc, interpreter=f"/usr/bin/python{python}")


def _python_root(image: str, python: str, rest: str) -> RootDraft:
    """Return the root with a Python: Debian's own, or the image of that Python."""
    suite = next((s for s in _SUITES if s.python == python), None)
    if suite is not None:
        return _debian(suite)
    glibc = next((glibc for tag, glibc, _ in _SYSTEMS if tag.search(rest)), _NEWEST.glibc)
    name = full_name(image or f"python:{python}-slim")
    return RootDraft(image=name, python=python, glibc=glibc, interpreter=f"/usr/local/bin/python{python}")


def has_compilers(image: str) -> bool:
    """Return whether an image of Python is the one with compilers, rather than a slim one."""
    found = _PYTHON_IMAGE.fullmatch(image.partition("@")[0])
    return found is not None and not {"slim", "alpine"} & {*re.split(r"[-\d.]+", found["rest"])}


def advise_root(image: str, root: RootDraft, stage: str) -> str:
    """Return what a person has to do about the root that was chosen for ``image``; empty if there is nothing."""
    name, advice = image.partition("@")[0], []
    if "alpine" in name:
        advice.append(
            "Alpine's C library is musl, for which most packages have no wheels (manylinux): Debian stands in"
        )
    elif _CONDA.fullmatch(name):
        advice.append("Debian stands in for conda: its packages become wheels and Debian packages")
    elif root.image and (found := _WITH_PACKAGES.fullmatch(name)):
        package = {"pytorch": "torch"}.get(found["package"], found["package"])
        version = f"=={found['version']}" if found["version"] else ""
        advice.append(
            f"packages of this image are not seen by yours: write `{package}{version}` into requirements/{stage}.in. "
            'Wheels bring CUDA, so an image of Python is enough as a root. Or set `site-packages = "system"` in '
            "[tool.buildkit], and wheels stand on what this image has"
        )
    if root.image and not root.interpreter.startswith("/usr/local/"):
        advice.append("check `python`, `glibc` and `interpreter` in [tool.buildkit]: they must be those of this image")
    return "\n".join(advice)


def with_python(root: RootDraft, python: str) -> RootDraft:
    """Return the root with the Python that its packages bring."""
    return replace(root, python=python, interpreter=f"/usr/bin/python{python}")


def choose_without_file(wanted_python: str) -> RootDraft | None:
    """Return the root for a project without a Containerfile; None if no suite of Debian has its Python."""
    suite = next((s for s in _SUITES if wanted_python in ("", s.python)), None)
    return _debian(suite) if suite else None


def _debian(suite: _Suite) -> RootDraft:
    interpreter = f"/usr/bin/python{suite.python}"
    return RootDraft(suite=suite.suite, python=suite.python, glibc=suite.glibc, interpreter=interpreter)
