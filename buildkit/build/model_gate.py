"""The gate: no file of a model becomes, or stays, a layer before it was scanned and found fit.

A layer that is built waits for a task that scans its files, unless their verdicts are known. A layer that is reused was
scanned when it was built; where the rules have changed since, its files are scanned again if they are at hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import BinaryIO

from buildkit.build.context import BuildContext
from buildkit.build.model_files import missing, opened
from buildkit.build.model_scanner import Scanner
from buildkit.declare.model_allowlist import ALLOW_FILE, ModelAllowlist, load_allowlist
from buildkit.errors import LostError, MismatchError, ModelError
from buildkit.events import Note
from buildkit.findings import Finding
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.spec import PackModel, Spec
from buildkit.report.findings_table import format_finding_counts, format_location, format_severity, sort_worst_first
from buildkit.report.text import format_count
from buildkit.scan import Judgement, Scan, Verdict, judge
from buildkit.tasks.scheduler import Lane, Outcome, Task
from buildkit.tasks.task_id import TaskId

_SHOWN = 5


class Gate:
    """Judges the model files of one build, with the project's allow-file and its setting."""

    def __init__(self, context: BuildContext) -> None:
        self._context = context

    @cached_property
    def _allow(self) -> ModelAllowlist:
        return load_allowlist(self._context.project.folder)

    @cached_property
    def _scanner(self) -> Scanner:
        return Scanner(self._context, self._allow)

    def task(self, spec: Spec, work: PackModel, needs: tuple[TaskId, ...]) -> Task | None:
        """What scans the files of a layer before it is packed; None where all of their verdicts are known.

        Raises ModelError for a file whose verdict is known, and bad.
        """
        known = self._scanner.known(file.sha256 for file in work.files)
        self._settle(work.model, ((file, known[file.sha256]) for file in work.files if file.sha256 in known))
        left = [file for file in work.files if file.sha256 not in known]
        if not left:
            return None

        def action() -> Outcome:
            for file in left:
                self._settle(work.model, [(file, self._scan_for(spec, work.model, file))])
            return Outcome(size=sum(file.size for file in left))

        total = max(file.size for file in left)
        return Task(name=spec.name, phase="scan", lane=Lane.CPU, action=action, needs=needs, total=total)

    def _scan_for(self, spec: Spec, model: Model, file: ModelFile) -> Scan:
        try:
            with opened(self._context, model, file) as content:
                return self._scan(spec.name, model, file, content)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if isinstance(model.source, RepoSource):
                raise missing(model, file) from None
            raise

    def check_reused(self, specs: Sequence[Spec]) -> None:
        """Judge the files of layers that were not built in this run; raises ModelError.

        What has no verdict under the present rules and is not at hand is said, and goes by its builder's verdict.
        """
        works = [spec.work for spec in specs if isinstance(spec.work, PackModel)]
        if not works:
            return
        known = self._scanner.known(file.sha256 for work in works for file in work.files)
        absent = 0
        for work in works:
            for file in work.files:
                scan = known.get(file.sha256) or self._scan_if_here(work.model, file)
                absent += scan is None
                if scan is not None:
                    self._settle(work.model, [(file, scan)])
        if absent:
            text = f"{format_count(absent, 'model file')} of reused layers cannot be scanned by today's rules: not here"
            self._context.emit(Note(text=f"{text} (nox -s scan-models fetches and scans)"))

    def _scan_if_here(self, model: Model, file: ModelFile) -> Scan | None:
        try:
            with opened(self._context, model, file) as content:
                return self._scan(f"{model.name}/{file.path}", model, file, content)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, MismatchError, LostError):
            return None  # the layer is another's than what lies here now, or nothing lies here

    def _scan(self, step: str, model: Model, file: ModelFile, content: BinaryIO) -> Scan:
        if os.fstat(content.fileno()).st_size != file.size:
            raise MismatchError(f"{model.name}: {file.path} has another size than its lock says")
        return self._scanner.scan(name_of(model, file), file.sha256, content, self._context.progress(step))

    def _settle(self, model: Model, scans: Iterable[tuple[ModelFile, Scan]]) -> None:
        """Raise ModelError for files that are refused; say what is let through without being clean."""
        policy = self._context.project.unscanned_models
        for file, scan in scans:
            judgement = judge(scan, name_of(model, file), file.sha256, self._allow)
            if judgement.is_refused(policy):
                raise refusal(name_of(model, file), judgement)
            if judgement.verdict is Verdict.PARTIAL:
                what = "no format that is known, so not scanned" if judgement.unknown else "not fully scanned"
                self._context.emit(Note(text=f"{name_of(model, file)}: {what}", warning=True))


def name_of(model: Model, file: ModelFile) -> str:
    """What findings call a file: its path in the repository, or the model's name and the path below it."""
    return file.source if isinstance(model.source, RepoSource) else f"{model.name}/{file.path}"


def refusal(name: str, judgement: Judgement) -> ModelError:
    """The error that stops a build: which file, what was found and why that matters; the hint says what to do."""
    open_ones = sort_worst_first(judgement.findings)
    partial = judgement.verdict is Verdict.PARTIAL
    head = "it could not be fully scanned" if partial else format_finding_counts(open_ones)
    lines = [f"{name}: refused: {head}", *(_line(one) for one in open_ones[:_SHOWN])]
    if len(open_ones) > _SHOWN:
        lines.append(f"  … and {len(open_ones) - _SHOWN} more (nox -s scan-models)")
    worst = open_ones[0].rule
    lines.append(f"  why: {worst.why}")
    accept = f'accept it in {ALLOW_FILE}: [[accept]] rule = "{worst.id}", sha256 = "{judgement.sha256.hex}", reason'
    return ModelError("\n".join(lines), hint=f"{worst.advice} Or, if it was looked at and is fine, {accept}")


def _line(one: Finding) -> str:
    return f"  {format_severity(one.severity)} {one.rule.id}: {format_location(one)}: {one.what}"
