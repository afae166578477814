"""JSON: parsed within limits, as the loaders of models parse it; every object and text in it is checked.

Python's parser lets the last of two equal keys win, other parsers the first, so shadowed values are checked as well.
"""

from __future__ import annotations

import codecs
import json

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats import configs, jinja, structures, tomltext, yamltext
from buildkit.scan.formats.cursor import MalformedContentError, quote
from buildkit.scan.formats.structures import StructureObject, check, make_object, walk
from buildkit.scan.limits import LimitError
from buildkit.scan.source import BytesSource, ScanSource

DOUBLE = Rule(
    id="json-double-key",
    title="A duplicate key in a JSON object",
    severity=Severity.LOW,
    why="Parsers differ in which of the two they take: what was checked need not be what is loaded.",
    advice="Remove one of the two.",
)
_SPACE = b" \t\r\n"
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NODES = 12_000_000


def recognise(head: bytes, source: ScanSource) -> bool:
    """Recognise the beginning of an object or array; Jinja and TOML begin similarly."""
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
    """Return whether these are the first bytes of UTF-8: a bracket and a digit alone could begin anything."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def scan(context: ScanContext, source: ScanSource) -> None:
    """Parse and check one value, or one per line.

    Raises:
        MalformedContentError: an object is malformed.
        LimitError: there is more of it than is read.
    """
    most = context.budget.limits.json
    if source.size > most:
        raise LimitError(f"JSON of {source.size} bytes, more than {most}")
    content = source.read(0, source.size)
    try:
        value = parse(context, content)
    except MalformedContentError:
        text = content.decode(_encoding(content), errors="replace")
        yamltext.check(context, [text])  # its flow collections begin like JSON
        if text.lstrip(" \t\r\n")[:1] == "[":  # text that begins with a bracket; it is also scanned as text
            jinja.check(context, text)
            tomltext.check(context, text)
            return
        raise
    check(context, value)


def check_text(context: ScanContext, content: bytes, *, base: int = 0) -> None:
    """Check JSON inside another format; other text is ignored.

    Raises:
        LimitError: there is more of it than is read.
    """
    if not recognise(content[:4096], BytesSource(content[:4096])):
        return
    if len(content) > context.budget.limits.json:
        raise LimitError(f"JSON of {len(content)} bytes, more than {context.budget.limits.json}")
    try:
        check(context, parse(context, content, base=base))
    except MalformedContentError as error:
        context.gap(f"malformed JSON: {error}", offset=error.offset)


def _encoding(content: bytes) -> str:
    return next((name for mark, name in _BOMS if content.startswith(mark)), "utf-8")


def parse(context: ScanContext, content: bytes, *, base: int = 0) -> object:
    """Return the value, or a list if several follow each other; report duplicate keys.

    Raises:
        MalformedContentError: it is not JSON; the offset counts from ``base`` before the content.
        LimitError: there are more values than are kept.
    """
    if content.count(b",") + content.count(b"[") + content.count(b"{") > _NODES:
        raise LimitError(f"JSON of more than {_NODES} values")
    try:
        return _decode(context, content.decode(_encoding(content)))
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

    def make(pairs: list[tuple[str, object]]) -> StructureObject:
        result = make_object(pairs)
        double.extend(key for key, _ in result.shadowed)
        return result

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
        context.find(DOUBLE, f"{', '.join(quote(key) for key in dict.fromkeys(double[:3]))} occurs more than once")
    return values[0] if len(values) == 1 else values


def check_strings(context: ScanContext, value: object) -> None:
    """Check every text by itself; a text that is JSON is parsed as such."""
    templates: set[str] = set()
    for node in walk(value):
        if isinstance(node, dict):
            templates.update(configs.find_templates(node))
        elif isinstance(node, str):
            structures.check_text(context, node, declared=node in templates)
            if node[:1] in "{[" and node[1:2] not in "%{":
                check_text(context, node.encode(errors="surrogatepass"))
