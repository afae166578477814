"""The contents of a listing (`layers.tar.listing`): one text for what lies at a path.

The content of a file is the SHA-256 of its bytes, followed by `EXECUTABLE` if its owner may execute it; of a symbolic
link ``-> TARGET``; of a device or a pipe `SPECIAL`; of an ``__init__.py`` that only declares a namespace package, and
of its bytecode, `NAMESPACE`, because any such file may stand for another; of an empty folder of a root `FOLDER`.
"""

from __future__ import annotations

EXECUTABLE = " +x"
FOLDER = "/"
SPECIAL = "special"
NAMESPACE = "namespace"

LINK = "-> "

Listing = list[tuple[str, str]]


def link_content(target: str) -> str:
    """Return the content of a symbolic link."""
    return f"{LINK}{target}"


def describe_difference(first: str, second: str) -> str:
    """Return how two contents of one path differ, as a clause."""
    links = [content.startswith(LINK) for content in (first, second)]
    if any(links):
        return "they are links to different paths" if all(links) else "only one of them is a link"
    if first.removesuffix(EXECUTABLE) == second.removesuffix(EXECUTABLE):
        return "only one of them is executable"
    return "their bytes differ"
