"""safetensors: eight bytes of length, a JSON header, tensors without gaps.

Spec: github.com/huggingface/safetensors (README, "Format"). The library checks the same when it loads; other readers do
not.
"""

from __future__ import annotations

import math
import re

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import MalformedContentError, quote
from buildkit.scan.formats.jsontext import check_strings, parse
from buildkit.scan.formats.polyglot import check_trailing, check_zip
from buildkit.scan.formats.structures import StructureObject
from buildkit.scan.limits import LimitError
from buildkit.scan.source import ScanSource

BENT = Rule(
    id="safetensors-bent-header",
    title="A safetensors header that readers interpret differently",
    severity=Severity.HIGH,
    why="With overlapping, hidden or duplicate tensors, one reader loads other weights than another one checked.",
    advice="Get the file from its author again, or write it again with the safetensors library.",
    references=("https://github.com/huggingface/safetensors#format",),
)
METADATA = Rule(
    id="safetensors-metadata",
    title="safetensors metadata that is not plain text",
    severity=Severity.MEDIUM,
    why="Loaders read settings from the metadata; other values than text, or names of code, do not belong there.",
    advice="Inspect the metadata, and write the file again without it.",
)
MOST_HEADER = 100_000_000  # the library refuses more
_SUSPECT = re.compile(
    r"<script|javascript:|__import__|!!python/|;base64,|(?<![\w.])(?:eval|exec)\(|os\.system|subprocess\."
    r"|(?:curl|wget)\s[^\n|]{0,300}\|\s*\w*sh\b|\brm\s+-rf\b|\b(?:ba)?sh\s+-c\b|\bnc\s+-\w*e|/dev/tcp/"
    r"|https?://[^\s\"'<>]{1,300}\.(?:sh|py|exe|ps1|bat|dll|so|pkl|pickle)\b",
    re.IGNORECASE,
)
_BITS = {
    **dict.fromkeys(("F4",), 4), **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16), **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64), "C128": 128,
}  # fmt: skip


def recognise(head: bytes, source: ScanSource) -> bool:
    """Recognise a length and a JSON object; a length beyond the end also counts, if it is plausible."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 10 or head[8:9] != b"{":
        return False
    return length <= source.size - 8 or (length < 2**40 and head[9:10] in b'" \n}')


def scan(context: ScanContext, source: ScanSource) -> None:
    """Compare header, sizes and content.

    Raises:
        MalformedContentError: there is no readable header.
        LimitError: the header is longer than is read.
    """
    length = int.from_bytes(source.read(0, 8), "little")
    if length > source.size - 8:
        raise MalformedContentError(f"its header declares {length} bytes, the file has {source.size}", 0)
    if length > min(MOST_HEADER, context.budget.limits.header):
        raise LimitError(f"a safetensors header of {length} bytes, more than {MOST_HEADER}")
    header = parse(context, source.read(8, length), base=8)
    if not isinstance(header, StructureObject):
        raise MalformedContentError("its header is not a JSON object", 8)
    if header.shadowed:
        names = ", ".join(quote(key) for key, _ in header.shadowed[:3])
        context.find(BENT, f"the header names {names} more than once", offset=8)
    data = 8 + length
    check_zip(context, source)
    _check_metadata(context, header.get("__metadata__", {}))
    end = _check_tensors(context, header, source.size - data)
    check_trailing(context, source, data + end)


def _check_metadata(context: ScanContext, metadata: object) -> None:
    if not isinstance(metadata, dict):
        context.find(METADATA, "__metadata__ is not an object")
        return
    for key, value in metadata.items():
        if not isinstance(value, str):
            context.find(METADATA, f"__metadata__ has {quote(key)}, which is not text", severity=Severity.LOW)
            continue
        if found := _SUSPECT.search(value):
            context.find(METADATA, f"__metadata__ has {quote(key)} with {quote(found.group())}")
    check_strings(context, metadata)


def _check_tensors(context: ScanContext, header: dict[str, object], size: int) -> int:
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        span = _check_tensor(context, name, entry, size)
        if span is not None:
            spans.append((*span, name))
    end = 0
    for start, stop, name in sorted(spans):
        if start < end:
            context.find(BENT, f"tensor {quote(name)} begins at {start}, inside another one that ends at {end}")
        elif start > end:
            context.find(BENT, f"{start - end} bytes before tensor {quote(name)} belong to no tensor", offset=end)
        end = max(end, stop)
    return end


def _check_tensor(context: ScanContext, name: str, entry: object, size: int) -> tuple[int, int] | None:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        context.find(BENT, f"tensor {quote(name)} must have exactly dtype, shape and data_offsets")
        return None
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not _numbers(shape) or not _numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        context.find(BENT, f"tensor {quote(name)} has an invalid shape or invalid offsets")
        return None
    start, stop = offsets
    if stop > size:
        context.find(BENT, f"tensor {quote(name)} ends at {stop}, but only {size} bytes follow the header")
        return None
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        context.gap(f"tensor {quote(name)} has the unknown type {quote(str(dtype))}")
    elif len(shape) > 64 or math.prod(shape) * bits != (stop - start) * 8:
        context.find(
            BENT, f"tensor {quote(name)}: {dtype} of shape {str(shape)[:80]} does not have {stop - start} bytes"
        )
    return start, stop


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)
