"""Names of images in registries, as stage files write them: whole, with the registry and a tag or a digest."""

from __future__ import annotations

import re

from buildkit.declare.schema import TextSchema

PINNED_IMAGE = r"(?:\[[0-9a-fA-F:]+\]|[a-z0-9])[A-Za-z0-9./:_-]*@sha256:[0-9a-f]{64}"
_DOMAIN = r"(?:localhost|\[[0-9a-fA-F:]+\]|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)"
_HOST = rf"(?:{_DOMAIN}(?::[0-9]{{1,5}})?|[A-Za-z0-9-]+:[0-9]{{1,5}})"
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAMED = rf"{_HOST}/{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"


def _advise(text: str) -> str:
    """Return what to write for a name that is not whole, and would mean another image on another machine."""
    whole = full_name(text.rpartition("://")[2])
    return f"write {whole}" if re.fullmatch(_NAMED, whole) else "such as docker.io/library/python:3.13-slim"


ROOT_IMAGE = TextSchema(
    f"{PINNED_IMAGE}|{_NAMED}",
    "the whole name of an image (REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:...)",
    advise=_advise,
)


def full_name(image: str) -> str:
    """Return the name of an image with its registry: names without one are Docker Hub's."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


def is_pinned(image: str) -> bool:
    """Return whether a name has a digest."""
    return "@" in image


def without_tag(image: str) -> str:
    """Return ``REGISTRY/NAME`` for ``REGISTRY/NAME:TAG``."""
    folder, slash, last = image.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"
