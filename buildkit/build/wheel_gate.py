"""The wheel gate: no wheel becomes part of a layer before it was scanned for what runs or hides without an import.

Each content is scanned once under the same rules, while its layer is packed. A layer that is reused was scanned when it
was built. Findings of at least high severity stop the build, and so do files that could not be scanned, if the setting
``unscanned-wheels`` says so; lesser findings are one warning for each wheel.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from buildkit.build.context import BuildContext
from buildkit.build.model_scanner import has_failed, scan_or_gap
from buildkit.declare.model_allowlist import ALLOW_FILE, ModelAllowlist, load_allowlist
from buildkit.digest import FileHash
from buildkit.errors import BuildError, WheelError
from buildkit.events import Note
from buildkit.findings import Finding, Severity
from buildkit.report.findings_table import format_severity, sort_worst_first
from buildkit.report.text import format_count, sanitize_line
from buildkit.scan import NOT_SCANNED, UNKNOWN_CONTENT, Scan, library_globals, rules_version, scan_wheel
from buildkit.store.scan_verdicts import ScanVerdicts, at_path
from buildkit.tools.forked_workers import Progress, RunFunction, run_here

_MOST = 5


class WheelGate:
    """Judges the wheels of one build by the project's allowlist and setting; ``run`` runs the scans."""

    def __init__(self, context: BuildContext, run: RunFunction = run_here) -> None:
        self._context = context
        self._run = run
        self._verdicts = ScanVerdicts(context.ledger)

    @cached_property
    def _allow(self) -> ModelAllowlist:
        return load_allowlist(self._context.project.folder)

    @cached_property
    def _globals(self) -> frozenset[str]:
        return self._allow.globals | library_globals(self._context.project.scan_allow)

    @cached_property
    def _rules(self) -> str:
        return f"wheel-{rules_version(self._globals)}"

    def check(self, wheels: Iterable[Path]) -> None:
        """Raise WheelError for a refused wheel of the cache; emit a warning for one with lesser findings."""
        for wheel in wheels:
            self._judge(wheel, self._scan(wheel, FileHash(wheel.parent.name)))

    def _scan(self, wheel: Path, sha256: FileHash) -> Scan:
        known = self._verdicts.find([sha256], self._rules).get(sha256)
        if known is None:
            began = time.monotonic()
            with self._context.files.unchanged([wheel]):  # the verdict is of these bytes
                known = self._run(_examine, _ignore, (wheel, self._globals))
            if not has_failed(known):
                with suppress(BuildError):  # with a full disk, it is scanned again the next time
                    self._verdicts.add(sha256, self._rules, known, time.monotonic() - began)
        return at_path(known, wheel.name)

    def _judge(self, wheel: Path, scan: Scan) -> None:
        distribution = _normalise(wheel.name.partition("-")[0])
        findings = [
            finding for finding in (*scan.findings, *self._gaps(wheel, scan)) if finding.severity > Severity.NOTE
        ]
        left = [f for f in findings if not self._allow.accepts_in_wheel(f.rule.id, distribution, _file_of(f))]
        refused = [f for f in left if f.severity >= Severity.HIGH]
        if refused:
            raise _refusal(wheel, distribution, sort_worst_first(refused))
        if left:
            worst = sort_worst_first(left)[0]
            more = f", and {len(left) - 1} more" if len(left) > 1 else ""
            self._context.emit(Note(text=f"{wheel.name}: {_format(worst)}{more}", warning=True))

    def _gaps(self, wheel: Path, scan: Scan) -> Iterable[Finding]:
        """Yield what was not scanned, of high severity where the setting refuses it."""
        policy = self._context.project.unscanned_wheels
        for gap in scan.gaps:
            unknown = gap.why == UNKNOWN_CONTENT
            refuses = policy == "refuse" or (policy == "refuse-known" and not unknown)
            severity = Severity.HIGH if refuses else Severity.NOTE if unknown else Severity.MEDIUM
            yield Finding(rule=NOT_SCANNED, what=gap.why, path=wheel.name, member=gap.member, override=severity)


def _ignore(_done: int) -> None:
    """Show no progress of a scan."""


def _examine(_progress: Progress, question: tuple[Path, frozenset[str]]) -> Scan:
    wheel, allowed = question
    return scan_or_gap(lambda: scan_wheel(wheel, allowed))


def _refusal(wheel: Path, distribution: str, findings: Sequence[Finding]) -> WheelError:
    """Return the error that stops a build: the wheel, its worst findings, why they matter, and how to accept them."""
    lines = [f"{wheel.name}: refused: {format_count(len(findings), 'finding')}"]
    lines += [f"  {_format(finding)}" for finding in findings[:_MOST]]
    if len(findings) > _MOST:
        lines.append(f"  … and {len(findings) - _MOST} more")
    worst = findings[0]
    lines.append(f"  why: {worst.rule.why}")
    accept = (
        f'rule = "{worst.rule.id}", distribution = "{distribution}", path = "{sanitize_line(_file_of(worst))}", reason'
    )
    return WheelError(
        "\n".join(lines),
        hint=f"{worst.rule.advice} If you have reviewed it and it is fine, accept it in {ALLOW_FILE}: "
        f"[[accept-in-wheel]] {accept}",
    )


def _file_of(finding: Finding) -> str:
    return finding.member.partition("!")[0]


def _format(finding: Finding) -> str:
    return f"{format_severity(finding.severity)} {finding.rule.id}: {sanitize_line(finding.member)}: {finding.what}"


def _normalise(name: str) -> str:
    from packaging.utils import canonicalize_name  # slow to load: only builds that pack a layer need it

    return canonicalize_name(name)
