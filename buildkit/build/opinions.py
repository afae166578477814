"""Second opinions on a scanned file: what another scanner finds and ours does not is a finding."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from buildkit.build.context import BuildContext
from buildkit.findings import Finding, Rule, Severity
from buildkit.scan import Scan, Verdict
from buildkit.tools.second_opinions import Opinion, SecondOpinions

DISAGREE = Rule(
    id="engines-disagree",
    title="Scanners do not agree on a file",
    severity=Severity.HIGH,
    why="One of them is wrong: a way past a scanner is found by what another one sees.",
    advice="Look at what each of them names before the file is used; report the one that is wrong to its makers.",
)
FAILED = Rule(
    id="second-opinion-failed",
    title="Another scanner failed at a file",
    severity=Severity.NOTE,
    why="There is one opinion less on the file.",
    advice="Install what it lacks, else report it to its makers; nox -s scan-models -- --no-cache asks again.",
)
_BEGINNING = 8 << 20  # bytes
_PICKLES = frozenset({"pickle", "NumPy array", "PyTorch", "PyTorch, legacy", "zip", "tar"})


def ask_all(
    context: BuildContext, name: str, file: BinaryIO, opinions: SecondOpinions, *, whole: bool = True
) -> tuple[Opinion, ...]:
    """Return each engine's opinion on an open file, or on its beginning. Raises Interrupted."""
    with context.blobs.working_folder() as folder:
        link = folder / (PurePosixPath(name).name or "model")  # picklescan depends on the suffix
        link.symlink_to(Path(f"/proc/self/fd/{file.fileno()}").readlink())
        return opinions.ask(link) if whole else opinions.ask(link, most=_BEGINNING)


def may_ask(formats: Collection[str]) -> bool:
    """Return whether other scanners are asked about a file of these formats: if it holds pickles, or is of none."""
    return not formats or not _PICKLES.isdisjoint(formats)


def with_opinions(name: str, scan: Scan, ask: Callable[[bool], tuple[Opinion, ...]]) -> Scan:
    """Return the scan with what other scanners add to it.

    ``ask`` returns their opinions, which count for files that have no findings; it is told whether the whole file must
    have been read, as of a known format. Failing at what is of none, probably not a pickle, is nothing to report.
    """
    if scan.verdict is Verdict.FINDINGS or not may_ask(scan.formats):
        return scan
    known = bool(scan.formats)
    added = tuple(disagreements(name, scan, tuple(one for one in ask(known) if known or not one.failed)))
    return replace(scan, findings=(*scan.findings, *added))


def without_opinions(scan: Scan) -> Scan:
    """Return the scan without what other scanners added."""
    kept = tuple(finding for finding in scan.findings if finding.rule.id not in (DISAGREE.id, FAILED.id))
    return replace(scan, findings=kept)


def disagreements(name: str, scan: Scan, opinions: tuple[Opinion, ...]) -> Iterator[Finding]:
    """Yield where another scanner disagrees or failed. Findings that only we have are a note: we examine more."""
    ours = scan.verdict
    for opinion in opinions:
        engine = f"{opinion.engine.name} {opinion.engine.version}".strip()
        if opinion.failed:
            yield Finding(rule=FAILED, what=f"{engine}: {opinion.why}", path=name)
        elif opinion.unsafe and ours is not Verdict.FINDINGS:
            what = f"{engine} calls it unsafe ({opinion.why}); here it is {ours.value}"
            yield Finding(rule=DISAGREE, what=what, path=name)
        elif opinion.unsafe is False and ours is Verdict.FINDINGS:
            what = f"{engine} finds nothing in it; here there are findings"
            yield Finding(rule=DISAGREE, what=what, path=name, override=Severity.NOTE)
