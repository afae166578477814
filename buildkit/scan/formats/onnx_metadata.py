"""The metadata of ONNX models: texts by name, which some loaders evaluate as Python, and others read as JSON."""

from __future__ import annotations

import ast
import builtins
import warnings

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats import structures
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.jsontext import check_strings
from buildkit.scan.formats.protobuf import BYTES, ByteSpan, ProtoReader

EVALUATED = Rule(
    id="onnx-metadata-code",
    title="Metadata of a model that calls a function when it is evaluated",
    severity=Severity.HIGH,
    why="Loaders of detection models pass names of classes and other metadata to Python's `eval`.",
    advice="Do not load the model; export it again without this entry.",
    references=("https://github.com/ultralytics/yolov5/blob/master/models/common.py",),
)
_LONGEST = 4 * 2**20
_BUILTINS = frozenset(dir(builtins))


def check_metadata(context: ScanContext, proto: ProtoReader, entries: list[ByteSpan]) -> None:
    """Check `ModelProto.metadata_props`."""
    pairs: list[tuple[str, object]] = []
    for entry in entries:
        texts = {1: "", 2: ""}
        for item in proto.fields(entry):
            if item.wire == BYTES and item.number in texts:
                if item.span.size > _LONGEST:
                    context.gap(f"metadata of {item.span.size} bytes", offset=item.span.start)
                texts[item.number] = proto.text(item.span, _LONGEST)
        if _calls(context, texts[2]):
            context.find(EVALUATED, f"{quote(texts[1])} is {quote(texts[2])}", offset=entry.start)
        pairs.append((texts[1], texts[2]))
    metadata = structures.make_object(pairs)
    structures.check(context, metadata)
    check_strings(context, metadata)


def _calls(context: ScanContext, text: str) -> bool:
    """Return whether a text is an expression that calls more than a name could look like, as ``Net(v2)`` does."""
    if "(" not in text:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(" \t"), mode="eval")
    except (SyntaxError, ValueError):
        return False
    except (RecursionError, MemoryError):
        context.gap("metadata that is an expression nested deeper than is followed")
        return False
    return any(_acts(node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def _acts(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Name) or call.func.id in _BUILTINS:
        return True
    return any(isinstance(one, ast.Constant) and isinstance(one.value, str | bytes) for one in ast.walk(call))
