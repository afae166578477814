"""What the image's own start script, or the command line of its shell, has the linker load."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from buildkit.audit import search_path_rules as rules
from buildkit.audit.view import ImageConfig, ImageView, format_untrusted
from buildkit.declare.target import SYSTEM_PATH
from buildkit.findings import Finding, Severity

_ASSIGNMENT = re.compile(
    r"""(?:^|[\s;&|(])(LD_PRELOAD|LD_AUDIT|LD_LIBRARY_PATH)=("[^"\n]*"|'[^'\n]*'|[^\s;&|)]*)""", re.MULTILINE
)
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)


def script_names(config: ImageConfig) -> frozenset[str]:
    """Return the names of files that may be scripts with which containers of the image start."""
    return frozenset(posixpath.basename(word) for word in config.argv if word and not word.startswith("-")) - {""}


def check_entry_scripts(view: ImageView) -> Iterator[Finding]:
    """Check what is set for every program that the start command starts."""
    line = " ".join(view.config.argv)
    yield from _check_text(line, "config: command", "")
    for word in view.config.argv:
        entry = next((found for path in _places(view, word) if (found := view.find(path)) and found.content), None)
        if entry is not None and (entry.content or b"").startswith(b"#!"):
            text = _COMMENT.sub("", (entry.content or b"").decode("utf-8", "replace"))
            yield from _check_text(text, format_untrusted(entry.path, 4096), view.layers[entry.layer].digest)


def _places(view: ImageView, word: str) -> list[str]:
    if word.startswith("/"):
        return [word]
    if "/" in word:
        return [posixpath.join(view.config.workdir or "/", word)]
    folders = view.config.variables.get("PATH", SYSTEM_PATH).split(":")
    return [posixpath.join(folder, word) for folder in folders if folder] if word else []


def _check_text(text: str, place: str, layer: str) -> Iterator[Finding]:
    for found in _ASSIGNMENT.finditer(text):
        name, value = found[1], found[2].strip("\"'")
        if not value or value in (f"${name}", f"${{{name}}}"):
            continue
        is_path = name == "LD_LIBRARY_PATH"
        yield Finding(
            rule=rules.LIBRARY_PATH if is_path else rules.PRELOAD,
            what=f"sets {name}={format_untrusted(value, 200)} for what it starts",
            path=place,
            layer=layer,
            override=None if is_path else Severity.MEDIUM,
        )
