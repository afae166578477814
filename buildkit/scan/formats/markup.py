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
_XML = re.compile(r"\s*<(?:\?xml|!DOCTYPE|!ENTITY|PMML\b|net\b|svg\b)", re.IGNORECASE)
_HTML = re.compile(r"\s*<(?:!doctype\s+html|html\b|head\b|body\b|script\b|iframe\b|svg\b|\?xml)", re.IGNORECASE)
_DECLARED = re.compile(r"<!ENTITY\s[^>]{0,300}|<!DOCTYPE[^>\[]{0,300}\b(?:SYSTEM|PUBLIC)\b[^>\[]{0,300}", re.IGNORECASE)
_PLAIN = re.compile(r"html|svg|plist|net|PMML", re.IGNORECASE)
_SCRIPT = re.compile(
    r"<script\b|<iframe\b|<embed\b|<object\b|javascript:|\son(?:load|error|click|mouseover|focus)\s*=", re.IGNORECASE
)
_LAYER = re.compile(r"<layer\b[^>]{0,500}\bversion=[\"'](?!opset\d)([^\"']{1,60})[\"']")


def check(context: ScanContext, text: str, *, first: bool = True) -> None:
    """Check a text that begins as markup (``first``: this is its beginning)."""
    if first and _XML.match(text[:200]):
        _check_xml(context, text)
    if first and _HTML.match(text[:200]) and (script := _SCRIPT.search(text)):
        context.find(ACTIVE, f"a page or drawing that has {quote(script.group().strip())}")


def _check_xml(context: ScanContext, text: str) -> None:
    for match in _DECLARED.finditer(text):
        declaration = match.group()
        name = declaration.split(None, 2)[1] if len(declaration.split(None, 2)) > 1 else ""
        known = _PLAIN.fullmatch(name) and (
            "://" not in declaration or re.search(r"w3\.org|apple\.com|dmg\.org", declaration)
        )
        if not (declaration[:9].upper() == "<!DOCTYPE" and known):
            context.find(ENTITY, f"it declares {quote(declaration)}")
            return
    if re.match(r"\s*(?:<\?xml[^>]{0,200}>\s*)?<net\b", text):
        for version in dict.fromkeys(_LAYER.findall(text)[:1000]):
            context.find(EXTENSION, f"a layer uses the operator set {quote(version)}")
