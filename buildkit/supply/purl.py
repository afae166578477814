"""Package URLs, as the purl specification writes them (``pkg:deb/debian/libc6@2.41-12?arch=amd64``)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from buildkit.locks.requirements_txt import normalise_name


def render_purl(kind: str, name: str, version: str, *, namespace: str = "", **qualifiers: str) -> str:
    """A package URL; qualifiers without a value are left out, and all are sorted by name."""
    place = f"{_encode(namespace)}/" if namespace else ""
    at = f"@{_encode(version)}" if version else ""
    return f"pkg:{kind}/{place}{_encode(name)}{at}{_query(qualifiers)}"


def pypi_purl(name: str, version: str) -> str:
    """That of a Python package."""
    return render_purl("pypi", normalise_name(name), version)


def image_purl(ref: str, arch: str) -> str:
    """That of a registry's image, pinned by digest (``docker.io/library/python:3.13@sha256:…``)."""
    place, _, digest = ref.partition("@")
    folder, _, last = place.rpartition("/")
    name, _, tag = last.partition(":")
    where = f"{folder}/{name}" if folder else name
    return render_purl("oci", name.lower(), digest, repository_url=where, arch=arch, tag=tag)


def _query(qualifiers: Mapping[str, str]) -> str:
    said = [f"{key}={quote(value, safe='.-_~/:')}" for key, value in sorted(qualifiers.items()) if value]
    return "?" + "&".join(said) if said else ""


def _encode(text: str) -> str:
    return quote(text, safe=".-_~:")
