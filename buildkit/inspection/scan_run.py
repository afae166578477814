"""Run ``scan-models``: read and judge every target once, with second opinions on request."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeVar

from buildkit.build.context import BuildContext
from buildkit.build.model_scanner import ModelScanner, Progress, read_checksums, verify_unchanged
from buildkit.build.opinions import ask_all, disagreements, without_opinions
from buildkit.declare.model_allowlist import ModelAllowlist
from buildkit.digest import FileHash
from buildkit.errors import BuildError, DefinitionError, Interrupted
from buildkit.events import StepProgress, step
from buildkit.findings import Finding
from buildkit.inspection.scan_targets import ScanTarget
from buildkit.scan import DIFFERS_FROM_LOCK, Judgement, Scan, judge
from buildkit.store.scan_verdicts import at_path
from buildkit.tools.opinion_engines import Engine
from buildkit.tools.second_opinions import Opinion, SecondOpinions

T = TypeVar("T")

LARGE = 64 << 20  # bytes of a file whose scan emits progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedFile:
    """A judged file; ``cached`` if the verdict was known before. ``seconds`` is the time of the scan itself."""

    target: ScanTarget
    size: int
    sha512: str
    scan: Scan
    judgement: Judgement
    opinions: tuple[Opinion, ...] = ()
    cached: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableFile:
    """A file that could not be read, and why."""

    target: ScanTarget
    why: str


class ScanRun:
    """Scans targets with a user's ``allow``, and asks ``engines`` for their opinions."""

    def __init__(
        self, context: BuildContext, allow: ModelAllowlist, engines: tuple[Engine, ...] = (), *, fresh: bool = False
    ) -> None:
        self._context = context
        self._allow = allow
        self._engines = engines
        self._opinions = SecondOpinions(engines)
        self._fresh = fresh
        self.scanner = ModelScanner(context, allow, fresh=fresh)

    def run(self, targets: list[ScanTarget]) -> Iterator[ScannedFile | UnreadableFile]:
        """Yield the result of each target, in order; raises Interrupted."""
        with self._opinions.needed():
            for target in targets:
                try:
                    yield self._known(target) or self._read(target)
                except OSError as error:
                    yield UnreadableFile(target=target, why=error.strerror or str(error))
                except (BuildError, DefinitionError) as error:
                    yield UnreadableFile(target=target, why=error.message)

    def _known(self, target: ScanTarget) -> ScannedFile | None:
        """Return the result for a locked model whose verdict is cached, without its file; else None."""
        if target.file is None or self._engines:
            return None
        scan = self.scanner.known([target.file.sha256]).get(target.file.sha256)
        sha512 = self._context.ledger.checksums.find(target.file.sha256)
        if scan is None or not sha512 or self._fresh:
            return None
        return self._judge(target, target.file.sha256, target.file.size, sha512, scan)

    def _read(self, target: ScanTarget) -> ScannedFile:
        with target.open(self._context) as file:
            stat = os.fstat(file.fileno())
            sha256, sha512 = self._checksums(target, file, stat)
            known = self.scanner.known([sha256]).get(sha256)
            began = time.monotonic()
            scan = known or self._run_reported(
                target, "scan", stat.st_size, lambda to: self._scan(target, sha256, file, to)
            )
            seconds = 0.0 if known else time.monotonic() - began
            opinions = ask_all(self._context, target.name, file, self._opinions) if self._engines else ()
            verify_unchanged(target.name, stat, os.fstat(file.fileno()))
        result = self._judge(target, sha256, stat.st_size, sha512, scan, opinions)
        return replace(result, cached=known is not None, seconds=seconds)

    def _scan(self, target: ScanTarget, sha256: FileHash, file: BinaryIO, to: Progress) -> Scan:
        return self.scanner.scan(target.name, sha256, file, to)

    def _checksums(self, target: ScanTarget, file: BinaryIO, stat: os.stat_result) -> tuple[FileHash, str]:
        """Return both hashes of a file: remembered ones, or from one pass over it."""
        index, known_sums = self._context.stat_index, self._context.ledger.checksums
        known = None if self._fresh else target.sha256 or index.find(stat)
        if known is not None and (sha512 := known_sums.find(known)):
            return known, sha512
        began = time.time_ns()
        sha256, sha512 = self._run_reported(target, "hash", stat.st_size, lambda to: read_checksums(file, to))
        if target.path is not None:
            index.note(stat, os.fstat(file.fileno()), sha256, began)
        known_sums.add(sha256, sha512)
        return sha256, sha512

    def _run_reported(self, target: ScanTarget, phase: str, size: int, work: Callable[[Progress], T]) -> T:
        """Do work on a file; for a large one, emit a step with progress. An interrupt is noticed in between."""
        context, name = self._context, target.name

        def progress(done: int) -> None:
            if context.stop.is_set():
                raise Interrupted("interrupted")
            if size >= LARGE:
                context.emit(StepProgress(step=name, done=done))

        if size < LARGE:
            return work(progress)
        with step(context.emit, name, phase, total=size) as handle:
            handle.size = size
            return work(progress)

    def _judge(
        self,
        target: ScanTarget,
        sha256: FileHash,
        size: int,
        sha512: str,
        scan: Scan,
        opinions: tuple[Opinion, ...] = (),
    ) -> ScannedFile:
        if opinions:  # these are new, those in the scan may be of long ago
            scan = without_opinions(scan)
        more = list(disagreements(target.name, scan, opinions))
        if target.locked is not None and target.locked != sha256:
            what = f"it has sha256 {sha256.hex}, and the lock says {target.locked.hex}"
            more.append(Finding(rule=DIFFERS_FROM_LOCK, what=what, path=target.name))
        judgement = judge(at_path(scan, target.name), target.name, sha256, self._allow, tuple(more))
        return ScannedFile(
            target=target, size=size, sha512=sha512, scan=scan, judgement=judgement, opinions=opinions, cached=True
        )
