"""All checks of an image at rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from buildkit.audit.accounts import check_accounts, check_user
from buildkit.audit.cuda import check_cuda
from buildkit.audit.entry_scripts import check_entry_scripts
from buildkit.audit.environment import check_environment, check_programs_writable
from buildkit.audit.files import check_members, check_rights
from buildkit.audit.imports import check_imports
from buildkit.audit.programs import check_programs
from buildkit.audit.records import check_records
from buildkit.audit.secrets import check_secrets
from buildkit.audit.service import check_service
from buildkit.audit.view import ImageView, format_untrusted
from buildkit.findings import Finding
from buildkit.native.check import check_native

Check = Callable[[ImageView], Iterator[Finding]]


def check_start(view: ImageView) -> Iterator[Finding]:
    """Check that every library that native files need is present."""
    yield from check_native(view.native, view.config.variables, view.config.arch)


CHECKS: tuple[Check, ...] = (
    check_user,
    check_accounts,
    check_rights,
    check_members,
    check_programs,
    check_imports,
    check_environment,
    check_entry_scripts,
    check_programs_writable,
    check_service,
    check_secrets,
    check_records,
    check_start,
    check_cuda,
)
MOST = 100  # findings of a rule: an image with ten thousand such files has one problem


def check_image(view: ImageView) -> tuple[Finding, ...]:
    """Return all findings of the checks, without duplicates and printable."""
    findings = (make_printable(finding) for check in CHECKS for finding in check(view))
    return tuple(limit_findings(dict.fromkeys(findings)))


def make_printable(finding: Finding) -> Finding:
    """Return the finding with unprintable characters escaped: names of files are foreign."""
    if (finding.what + finding.path).isprintable():
        return finding
    return replace(finding, what=format_untrusted(finding.what, 4096), path=format_untrusted(finding.path, 4096))


def limit_findings(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the first `MOST` of each rule, and one that counts the rest, as severe as the worst of them."""
    counts: dict[str, int] = {}
    rest: dict[str, list[Finding]] = {}
    for finding in findings:
        counts[finding.rule.id] = counts.get(finding.rule.id, 0) + 1
        if counts[finding.rule.id] <= MOST:
            yield finding
        else:
            rest.setdefault(finding.rule.id, []).append(finding)
    for left in rest.values():
        worst = max(left, key=lambda finding: finding.severity)
        what = f"and {len(left)} more of this rule, which are not listed"
        yield replace(worst, what=what, path="", offset=None, layer="", override=worst.severity)
