"""Package URLs by the purl specification (``pkg:deb/debian/libc6@2.41-12?arch=amd64``)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from buildkit.locks.git_source import GitSource
from buildkit.locks.pins import PythonArchive
from buildkit.locks.requirements_txt import normalise_name


def render_purl(kind: str, name: str, version: str, *, namespace: str = "", **qualifiers: str) -> str:
    """Return a package URL; qualifiers are sorted by name, and those without a value are left out."""
    place = f"{_encode(namespace)}/" if namespace else ""
    at = f"@{_encode(version)}" if version else ""
    return f"pkg:{kind}/{place}{_encode(name)}{at}{_query(qualifiers)}"


def pypi_purl(name: str, version: str, git: GitSource | None = None) -> str:
    """Return the package URL of a Python package; one of a git repository says the commit."""
    place = f"git+{git.url}@{git.commit}" if git else ""
    return render_purl("pypi", normalise_name(name), version, vcs_url=place)


def python_purl(archive: PythonArchive) -> str:
    """Return the package URL of an archive of python-build-standalone: CPython's release, and where its bytes are."""
    return render_purl(
        "generic", "python", archive.version, download_url=archive.url, checksum=f"sha256:{archive.sha256.hex}"
    )


def image_purl(ref: str, arch: str) -> str:
    """Return the package URL of a registry's image, pinned by digest (``docker.io/library/python:3.13@sha256:…``)."""
    place, _, digest = ref.partition("@")
    folder, _, last = place.rpartition("/")
    name, _, tag = last.partition(":")
    where = f"{folder}/{name}" if folder else name
    return render_purl("oci", name.lower(), digest, repository_url=where, arch=arch, tag=tag)


def _query(qualifiers: Mapping[str, str]) -> str:
    pairs = [f"{key}={quote(value, safe='.-_~/:')}" for key, value in sorted(qualifiers.items()) if value]
    return "?" + "&".join(pairs) if pairs else ""


def _encode(text: str) -> str:
    return quote(text, safe=".-_~:")
