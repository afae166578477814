"""Render findings as SARIF 2.1.0 (OASIS, errata 1), which code hosts and editors read.

A place in a file is ``region.byteOffset``. An offset in a member of an archive is not an offset in the file: there the
location names the file only, with the member as a logical location, and a related location leads into the member,
which is an artifact whose parent is the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import buildkit
from buildkit.findings import Finding, Rule, Severity
from buildkit.report.text import sanitize

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {
    Severity.NOTE: "note",
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
# what code hosts sort by, in the middle of CVSS's ranges
_SCORES = {
    Severity.NOTE: "0.0",
    Severity.LOW: "2.5",
    Severity.MEDIUM: "5.5",
    Severity.HIGH: "8.0",
    Severity.CRITICAL: "9.5",
}
_CVE = "https://nvd.nist.gov/vuln/detail/"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SarifRun:
    """The run that findings belong to.

    ``check`` is the session. Relative paths, or all paths if ``inside`` is true (they are of an image), are relative
    to what ``base`` names (``SRCROOT``); ``base_description`` describes it. ``subject``, the name of an image, stands
    for findings without a path. ``hashes`` maps paths of files to hexadecimal digits by algorithm; ``accepted`` maps
    findings that the user accepted to the reason. ``complete`` is whether everything could be examined.
    """

    check: str
    version: str
    base: str = "SRCROOT"
    base_description: str = "the folder of the repository"
    inside: bool = False
    subject: str = ""
    hashes: Mapping[str, Mapping[str, str]]
    accepted: Mapping[Finding, str]
    complete: bool = True

    @classmethod
    def of(cls, check: str, **more: Any) -> SarifRun:  # noqa: ANN401 - the other fields
        """Return a run of a session of this version; ``more`` are the other fields, by name."""
        return cls(check=check, version=buildkit.__version__, **{"hashes": {}, "accepted": {}, **more})


def render_sarif(findings: Sequence[Finding], run: SarifRun) -> str:
    """Return a log with one run; equal findings give equal text. It is ASCII, so no escape reaches a terminal."""
    return json.dumps(sarif_log(findings, run), indent=2) + "\n"


def sarif_log(findings: Sequence[Finding], run: SarifRun) -> Json:
    """Return the log of ``render_sarif`` as a JSON value."""
    rules = {finding.rule.id: finding.rule for finding in sorted(findings, key=lambda finding: finding.rule.id)}
    order = {name: number for number, name in enumerate(rules)}
    artifacts = _Artifacts(run)
    for path in run.hashes:
        artifacts.add(path, "")
    prints = _Fingerprints()
    results = [_result(finding, order[finding.rule.id], artifacts, prints, run) for finding in findings]
    driver = {"name": "buildkit", "semanticVersion": run.version, "rules": [_rule(rule) for rule in rules.values()]}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "automationDetails": {"id": f"{run.check}/"},
                "invocations": [{"executionSuccessful": run.complete}],
                "originalUriBaseIds": {run.base: {"description": _message(run.base_description)}},
                "artifacts": artifacts.listed,
                "results": results,
            }
        ],
    }


def _rule(rule: Rule) -> Json:
    links = [(name, _address(name)) for name in rule.references]
    see = "".join(f"\n- [{name}]({link})" if link else f"\n- {name}" for name, link in links)
    value: Json = {
        "id": rule.id,
        "name": "".join(part.capitalize() for part in rule.id.split("-")),
        "shortDescription": _message(rule.title),
        "fullDescription": _message(rule.why),
        "help": {
            "text": _plain("\n\n".join(filter(None, (rule.why, rule.advice, ", ".join(rule.references))))),
            "markdown": _plain(
                f"**Why it matters.** {rule.why}\n\n**What to do.** {rule.advice}" + (see and f"\n{see}")
            ),
        },
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {
            "security-severity": _SCORES[rule.severity],
            "tags": ["security", *(f"external/cve/{name.lower()}" for name in rule.references if _is_cve(name))],
        },
    }
    address = next((link for _, link in links if link), "")
    return {**value, "helpUri": address} if address else value


def _result(finding: Finding, index: int, artifacts: _Artifacts, prints: _Fingerprints, run: SarifRun) -> Json:
    where = f" ({finding.member}{_at(finding.offset)})" if finding.member else ""
    location: Json = {}
    properties: Json = {"severity": finding.severity.name.lower(), "security-severity": _SCORES[finding.severity]}
    if finding.path or run.subject:
        place = artifacts.place(finding.path, "")
        region = {} if finding.member or finding.offset is None else {"region": {"byteOffset": finding.offset}}
        location["physicalLocation"] = {"artifactLocation": place, **region}
    if finding.member:
        name = finding.member.rpartition("!")[2]
        location["logicalLocations"] = [
            {"name": _plain(name), "fullyQualifiedName": _plain(f"{finding.path}!{finding.member}"), "kind": "member"}
        ]
    if finding.layer:
        properties["layer"] = finding.layer
    value: Json = {
        "ruleId": finding.rule.id,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": _message(f"{finding.what}{where}"),
        "locations": [location] if location else [],
        "partialFingerprints": {"finding/v1": prints.of(finding)},
        "properties": properties,
    }
    if finding.member:
        region = {} if finding.offset is None else {"region": {"byteOffset": finding.offset}}
        inner = artifacts.place(finding.path, finding.member)
        value["relatedLocations"] = [{"physicalLocation": {"artifactLocation": inner, **region}}]
    if finding in run.accepted:
        value["suppressions"] = [{"kind": "external", "justification": _plain(run.accepted[finding])}]
    return value


class _Artifacts:
    """The files that results name, each once; the parent of a member is its archive."""

    def __init__(self, run: SarifRun) -> None:
        self._run = run
        self._known: dict[tuple[str, str], int] = {}
        self.listed: list[Json] = []

    def add(self, path: str, member: str) -> int:
        """Return the index of a file, or of a member of it; with or without its first slash, it is one of an image."""
        path = (path.lstrip("/") or path) if self._run.inside else path
        known = self._known.get((path, member))
        if known is not None:
            return known
        entry: Json = {"location": self._location(path) if not member else {"uri": _inner(member)}}
        if member:
            entry["parentIndex"] = self.add(path, member.rpartition("!")[0])
        elif path in self._run.hashes:
            entry["hashes"] = dict(self._run.hashes[path])
        self._known[path, member] = len(self.listed)
        self.listed.append(entry)
        return len(self.listed) - 1

    def place(self, path: str, member: str) -> Json:
        """Return the ``artifactLocation`` of a file or member."""
        where = {"uri": _inner(member)} if member else self._location(path)
        return {**where, "index": self.add(path, member)}

    def _location(self, path: str) -> Json:
        if not path:
            return {"uri": _quote(self._run.subject)}
        if path.startswith("/") and not self._run.inside:
            return {"uri": f"file://{_quote(path)}"}
        relative = _quote(path.lstrip("/"))
        return {"uri": relative or "./", "uriBaseId": self._run.base}


class _Fingerprints:
    """Fingerprints that survive changes of nearby bytes: of the rule, place and text, but not of the offset."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of(self, finding: Finding) -> str:
        """Return ``HEX:N`` for the n-th finding of equal rule, place and text."""
        parts = (finding.rule.id, finding.path, finding.member, finding.what)
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(text).hexdigest()[:32]
        self._seen[digest] = self._seen.get(digest, 0) + 1
        return f"{digest}:{self._seen[digest]}"


def _inner(member: str) -> str:
    """Return the URI of a member within its archive, which SARIF wants to begin with a slash."""
    name = member.rpartition("!")[2]
    return _quote(str(PurePosixPath("/") / name.lstrip("/")))


def _quote(path: str) -> str:
    """Quote a path for a URI: file names are bytes, and names of members may be anything."""
    try:
        return quote(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return quote(_plain(path))


def _message(text: str) -> Json:
    """Return a message; escape braces and brackets, so that foreign text forms no placeholder or link of SARIF."""
    plain = _plain(text).replace("{", "{{").replace("}", "}}")
    return {"text": plain.replace("[", "\\[").replace("]", "\\]") if "](" in plain else plain}


def _plain(text: str) -> str:
    return sanitize(text)


def _at(offset: int | None) -> str:
    return "" if offset is None else f", byte {offset}"


def _is_cve(name: str) -> bool:
    return name.upper().startswith("CVE-")


def _address(name: str) -> str:
    return f"{_CVE}{name}" if _is_cve(name) else name if name.startswith("https://") else ""
