"""TensorFlow's graphs as text (`saved_model.pbtxt`, `graph.pbtxt`): which operators they use.

Spec: protobuf.dev/reference/protobuf/textformat-spec. Messages are not told apart: every field `op` counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildkit.scan.context import ScanContext
from buildkit.scan.formats import graphops
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.tensorflow import ADDRESSED
from buildkit.scan.formats.tensorflow_paths import PATH_INPUTS

_NODES = frozenset({"node", "node_def"})
_TOKEN = re.compile(  # in linear time, so a literal need not end
    r"""#[^\n]*|("(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)|(\w+)|[^\s]"""
)
_ESCAPED = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_CONTROLS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def is_graph(text: str) -> bool:
    """Return whether a text has nodes."""
    if not all(re.search(rf"\b{word}", text) for word in ("node", "op")):
        return False
    before = ""
    for token in _TOKEN.finditer(text):
        if before in _NODES and token[0] in "{<[":
            return True
        if not token[0].startswith(("#", ":")):
            before = token[0]
    return False


def check(context: ScanContext, text: str) -> None:
    """Check the operators of a graph; paths are not followed as in its binary form, so their use is a gap."""
    for name in dict.fromkeys(_operators(text)):
        graphops.check_op(context, name)
        if name in PATH_INPUTS or name in ADDRESSED:
            context.gap(f"the operator {quote(name)} has a path, which is not followed in a graph that is text")


def _operators(text: str) -> Iterator[str]:
    """Yield the value of each field `op`: one literal, or several that follow each other."""
    parts: list[str] | None = None
    for token in _TOKEN.finditer(text):
        literal, word = token.groups()
        if literal and parts is not None:
            parts.append(_ESCAPED.sub(_unescape, literal[1:-1]))
        elif not token[0].startswith(("#", ":")):
            if parts:
                yield "".join(parts)
            parts = [] if word == "op" else None
    if parts:
        yield "".join(parts)


def _unescape(match: re.Match[str]) -> str:
    octal, byte, short, long, other = match.groups()
    if other:
        return _CONTROLS.get(other, other)
    number = int(octal, 8) if octal else int(byte or short or long, 16)
    return chr(number) if number < 0x110000 else "\ufffd"
