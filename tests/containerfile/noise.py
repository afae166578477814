"""Differences allowed between an exported image and ours, and their reasons. Everything else must be equal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tests.containerfile.trees import Entry, differences

# (path, what is different): why
NOISE = {
    (r"opt/venv/.*\.dist-info/INSTALLER", "other holds"): "names the installer: pip, or us",
    (r"opt/venv/.*\.dist-info/REQUESTED", "added"): "pip notes what it was asked for by name; here it is everything",
    (r"opt/venv/.*\.dist-info/direct_url\.json", "added"): "pip notes the file that a wheel compiled here came from",
    (r"opt/venv/.*\.dist-info/RECORD", "other holds"): "lists those three, and no bytecode",
    (
        r"opt/venv/bin/[^/]+",
        "other holds",
    ): "start scripts: pip's template; python*: venv links them the other way round",
    (r"opt/venv/(\.lock|.*\.dist-info/uv_cache\.json)", "added"): "uv's own notes, where it installs",
    (r"opt/venv/pyvenv\.cfg", "other holds"): "venv notes its command line and the full version",
    (r"opt/venv/include/python3\.\d+", "added"): "an empty folder that venv makes",
    (r".*/__pycache__(/.*)?", ""): "bytecode",
    (r"dev(/.*)?|proc|sys|run/\.containerenv|\.dockerenv|etc/mtab", ""): "the engine's own, in whatever it exports",
    (r"etc/(hosts|hostname|resolv\.conf)", "other mode"): "docker mounts its own over them",
    (
        r"etc/(hosts|hostname|resolv\.conf)",
        "added",
    ): "what a builder mounts leaves an empty file in a root that lacks it",
    (r"mnt", "missing"): "buildah 1.28 takes the target of a bind mount away, which was there before",
    (r"with space", "added"): "WORKDIR makes its folder; without it an engine does when a container starts",
    (r"\.?", ""): "the root folder itself",
}


def find_differences(ours: dict[str, Entry], theirs: dict[str, Entry]) -> dict[str, str]:
    """Return the differences without a known reason."""
    return dict(_unexplained(differences(ours, theirs)))


def _unexplained(found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for path, what in found:
        if not any(re.fullmatch(known, path) and what.startswith(how) for known, how in NOISE):
            yield path, what
