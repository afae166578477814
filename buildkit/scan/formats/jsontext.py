"""JSON: read within bounds, as the loaders of models read it, and every object and text in it checked.

Python's reader lets the last of two equal keys win, others the first, so values that are shadowed are checked as well.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats import configs, jinja, keras
from buildkit.scan.formats.cursor import MalformedContentError, quote
from buildkit.scan.limits import LimitError
from buildkit.scan.source import BytesSource, ScanSource

DOUBLE = Rule(
    id="json-double-key",
    title="A key twice in one JSON object",
    severity=Severity.LOW,
    why="Readers differ in which of the two they take, so that what was checked need not be what is loaded.",
    advice="Remove one of the two.",
)
_SPACE = b" \t\r\n"
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NODES = 12_000_000


class JsonObject(dict[str, object]):
    """A JSON object that remembers the values which a later equal key hid."""

    shadowed: tuple[tuple[str, object], ...] = ()


def recognise(head: bytes, source: ScanSource) -> bool:
    """An object's or array's beginning; Jinja and TOML begin similarly."""
    del source
    text = head
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            text = head[: len(head) // 2 * 2].decode(encoding, errors="replace").encode()
    text = text.lstrip(_SPACE)
    rest = text[1:].lstrip(_SPACE)[:1]
    if text[:1] == b"{":
        return rest in (b'"', b"}") or not rest
    known = text[:1] == b"[" and rest in (b'"', b"{", b"[", b"]", b"-", *(b"%d" % n for n in range(10)))
    return known and _is_text(text)


def _is_text(head: bytes) -> bool:
    """Whether these are the first bytes of UTF-8: a bracket and a digit alone are the beginning of anything."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def scan(context: ScanContext, source: ScanSource) -> None:
    """Read one value, or one a line, and check each.

    Raises:
        MalformedContentError: an object that is none.
        LimitError: more of it than we read.
    """
    most = context.budget.limits.json
    if source.size > most:
        raise LimitError(f"JSON of {source.size} bytes, more than {most}")
    content = source.read(0, source.size)
    try:
        value = parse(context, content)
    except MalformedContentError:
        if content.lstrip(_SPACE)[:1] == b"[":  # text that begins with a bracket; as text it is scanned all the same
            jinja.check(context, content.decode(errors="replace"))
            return
        raise
    check(context, value)


def check_text(context: ScanContext, content: bytes, *, base: int = 0) -> None:
    """Check JSON that lies inside another format; what is none is left alone.

    Raises:
        LimitError: more of it than we read.
    """
    if not recognise(content[:4096], BytesSource(content[:4096])):
        return
    if len(content) > context.budget.limits.json:
        raise LimitError(f"JSON of {len(content)} bytes, more than {context.budget.limits.json}")
    try:
        check(context, parse(context, content, base=base))
    except MalformedContentError as error:
        context.gap(f"malformed JSON: {error}", offset=error.offset)


def parse(context: ScanContext, content: bytes, *, base: int = 0) -> object:
    """The value, or a list of values where several follow each other; keys given twice are found.

    Raises:
        MalformedContentError: no JSON; the offset counts from ``base`` before the content.
        LimitError: more values than we keep.
    """
    if content.count(b",") + content.count(b"[") + content.count(b"{") > _NODES:
        raise LimitError(f"JSON of more than {_NODES} values")
    encoding = next((name for mark, name in _BOMS if content.startswith(mark)), "utf-8")
    try:
        return _decode(context, content.decode(encoding))
    except UnicodeDecodeError as error:
        raise MalformedContentError("not Unicode text", base + error.start) from None
    except json.JSONDecodeError as error:
        raise MalformedContentError(
            f"{error.msg} in line {error.lineno}", base + min(error.pos, len(content))
        ) from None
    except RecursionError:
        raise LimitError("JSON nested deeper than we follow") from None
    except ValueError:
        raise MalformedContentError("a number of too many digits", base) from None


def _decode(context: ScanContext, text: str) -> object:
    double: list[str] = []

    def make(pairs: list[tuple[str, object]]) -> JsonObject:
        made = JsonObject(pairs)
        if len(made) < len(pairs):
            last = {key: place for place, (key, _) in enumerate(pairs)}
            made.shadowed = tuple(pair for place, pair in enumerate(pairs) if last[pair[0]] != place)
            double.extend(key for key, _ in made.shadowed)
        return made

    decoder = json.JSONDecoder(object_pairs_hook=make)
    values: list[object] = []
    at = 0
    while True:
        at += len(text[at : at + 65536]) - len(text[at : at + 65536].lstrip(" \t\r\n"))
        if at >= len(text) and values:
            break
        value, at = decoder.raw_decode(text, at)
        values.append(value)
    if double:
        context.find(DOUBLE, f"{', '.join(quote(key) for key in dict.fromkeys(double[:3]))} is given more than once")
    return values[0] if len(values) == 1 else values


def check(context: ScanContext, value: object) -> None:
    """Look at every object and text of a parsed value for what a loader of models would act on."""
    for node in _walk(value):
        if isinstance(node, dict):
            keras.check_object(context, node)
            configs.check_object(context, node)
        elif isinstance(node, str):
            jinja.check(context, node)


def check_strings(context: ScanContext, value: object) -> None:
    """Look at every text alone; one that is JSON itself is read as such."""
    for node in _walk(value):
        if isinstance(node, str):
            jinja.check(context, node)
            if node[:1] in "{[" and node[1:2] not in "%{":
                check_text(context, node.encode(errors="surrogatepass"))


def _walk(value: object) -> Iterator[object]:
    todo = [value]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, dict):
            todo.extend(node.values())
            todo.extend(hidden for _, hidden in getattr(node, "shadowed", ()))
        elif isinstance(node, list):
            todo.extend(node)
