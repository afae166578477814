"""XML and HTML in text: entities that read files, and scripts that run in a viewer."""

from __future__ import annotations

import re

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote

ENTITY = Rule(
    id="xml-entity",
    title="XML that declares entities",
    severity=Severity.HIGH,
    why="An XML reader (PMML, OpenVINO, CoreML) that resolves them reads files and addresses, or exhausts memory.",
    advice="Remove the declaration; no model format needs it.",
    references=("https://cwe.mitre.org/data/definitions/611.html", "https://cwe.mitre.org/data/definitions/776.html"),
)
ACTIVE = Rule(
    id="active-markup",
    title="A page with a script",
    severity=Severity.MEDIUM,
    why="In a browser or a notebook it runs with the rights of its origin; a model needs no pages.",
    advice="Remove the file from the model.",
)
EXTENSION = Rule(
    id="openvino-extension",
    title="An OpenVINO graph with operators of an extension",
    severity=Severity.NOTE,
    why="Such operators are run by a native library that has to be loaded with the model.",
    advice="Find out where that library comes from.",
)
_MOST = 2**20  # bytes of a prolog
_CUT = (3, 5)  # of expat: no element is found, a token is not closed
_PROLOG = re.compile(r"(?:\s+|<!--.*?-->|<\?.*?\?>|<!DOCTYPE[^>\[]*>)*+", re.DOTALL | re.IGNORECASE)
_ENCODED = re.compile(r"\s*<\?xml[^>]{0,100}\bencoding\s*=\s*[\"']([\w.:-]{1,40})")
_INCLUDE = re.compile(r"http://www\.w3\.org/2001/XInclude|<\?xml-stylesheet\b[^>]{0,200}")
_HTML = re.compile(r"\s*<(?:html|head|body|script|iframe|svg|meta|link|title|p|div)\b", re.IGNORECASE)
_DECLARED = re.compile(r"<!ENTITY\s[^>]{0,300}|<!DOCTYPE[^>\[]{0,300}\b(?:SYSTEM|PUBLIC)\b[^>\[]{0,300}", re.IGNORECASE)
_PLAIN = re.compile(r"html|svg|plist|net|PMML", re.IGNORECASE)
_SCRIPT = re.compile(
    r"<script\b|<iframe\b|<embed\b|<object\b|javascript:|\son(?:load|error|click|mouseover|focus)\s*=", re.IGNORECASE
)
_LAYER = re.compile(r"<layer\b[^>]{0,500}\bversion=[\"'](?!opset\d)([^\"']{1,60})[\"']")


def check(context: ScanContext, text: str, content: bytes) -> None:
    """Check the beginning of a text that begins as markup; ``content`` are its bytes."""
    start = text.lstrip()[:1]
    if start != "<":
        return
    _check_xml(context, text, content)
    if _HTML.match(_PROLOG.sub("", text, count=1)[:200]) and (script := _SCRIPT.search(text)):
        context.find(ACTIVE, f"a page or drawing that has {quote(script.group().strip())}")


def find_declaration(content: bytes) -> str | None:
    """Return what the prolog declares beyond the known document types, by expat without access to other files.

    Raises:
        ExpatError: expat refuses the content before its first element.
    """
    from xml.parsers import expat

    found: list[str] = []
    parser = expat.ParserCreate()

    def note_type(name: str, system: str | None, public: str | None, internal: int) -> None:
        del internal
        if (system or public) and not (_PLAIN.fullmatch(name) and _is_known(f"{system or ''} {public or ''}")):
            found.append(f"<!DOCTYPE {name} {system or public}>")

    def note_entity(name: str, is_parameter: int, value: str | None, *rest: str | None) -> None:
        found.append(f"<!ENTITY {'% ' if is_parameter else ''}{name} {value or rest[1] or ''}>")

    def stop(*_: object) -> None:
        raise _FirstElement

    parser.StartDoctypeDeclHandler = note_type
    parser.EntityDeclHandler = note_entity
    parser.StartElementHandler = stop
    try:
        parser.Parse(content, True)
    except _FirstElement:
        pass
    except expat.ExpatError:
        if not found:
            raise
    return found[0] if found else None


class _FirstElement(Exception):
    """The prolog has ended."""


def _is_known(place: str) -> bool:
    return "://" not in place or bool(re.search(r"w3\.org|apple\.com|dmg\.org", place))


def _check_xml(context: ScanContext, text: str, content: bytes) -> None:
    from xml.parsers.expat import ExpatError

    try:
        declared = find_declaration(content.lstrip(b" \t\r\n") if content[:1] != b"<" else content)
    except (ExpatError, ValueError, LookupError) as error:  # other readers are more tolerant, or know more encodings
        declared = _find_in_text(context, text, content)
        if len(content) > _MOST and getattr(error, "code", 0) in _CUT and not declared:
            context.gap(f"XML whose prolog is longer than {_MOST} bytes")
    if declared:
        context.find(ENTITY, f"it declares {quote(declared)}")
    if include := _INCLUDE.search(text):
        context.find(ENTITY, f"it has {quote(include.group())}")
    if re.match(r"\s*(?:<\?xml[^>]{0,200}>\s*)?<net\b", text):
        for version in dict.fromkeys(_LAYER.findall(text)[:1000]):
            context.find(EXTENSION, f"a layer uses the operator set {quote(version)}")


def _find_in_text(context: ScanContext, text: str, content: bytes) -> str | None:
    """Return what a text declares that expat does not parse, in the encoding that it names."""
    if encoding := _ENCODED.match(text):
        try:
            text = content.decode(encoding[1], errors="replace")
        except LookupError:
            context.gap(f"XML in the unknown encoding {quote(encoding[1])}")
    for match in _DECLARED.finditer(text):
        words = match.group().split(None, 2)
        known = len(words) > 1 and _PLAIN.fullmatch(words[1]) and _is_known(match.group())
        if not (words[0].upper() == "<!DOCTYPE" and known):
            return match.group()
    return None
