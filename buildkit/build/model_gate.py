"""The model gate: no model file becomes or stays a layer before it has passed the scan.

A layer that is built waits for a task that scans its files, unless their verdicts are known. A reused layer was scanned
when it was built; if the rules have changed since, its files are scanned again, provided they are on this host.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

from buildkit.build.context import BuildContext
from buildkit.build.model_files import missing_model_file, open_model_file
from buildkit.build.model_scanner import ModelScanner
from buildkit.declare.model_allowlist import ALLOW_FILE, ModelAllowlist, load_allowlist
from buildkit.digest import FileHash, Key
from buildkit.errors import LostError, MismatchError, ModelError
from buildkit.events import Note
from buildkit.findings import Finding
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.spec import PackModel, Spec
from buildkit.report.text import format_count
from buildkit.scan import Judgement, Scan, Verdict, is_clean, judge
from buildkit.worker_pool import WorkerPool

if TYPE_CHECKING:
    from buildkit.tasks.scheduler import Outcome, Task
    from buildkit.tasks.task_id import TaskId

_MAX_FINDINGS = 5
# names of formats without pickles: for others the process of other scanners is started before a file is looked at
_NO_PICKLES = frozenset({".gguf", ".json", ".md", ".onnx", ".safetensors", ".tflite", ".txt"})


class _PendingScan(NamedTuple):
    """A file that our own scanner has passed, while others may still read it."""

    model: Model
    file: ModelFile
    steps: Generator[Scan]


class ModelGate:
    """Judges the model files of one build by the project's allowlist and its setting for unknown formats."""

    def __init__(self, context: BuildContext) -> None:
        self._context = context
        self._pending: dict[Key, _PendingScan] = {}

    @cached_property
    def _allow(self) -> ModelAllowlist:
        return load_allowlist(self._context.project.folder)

    @cached_property
    def _scanner(self) -> ModelScanner:
        return ModelScanner(self._context, self._allow)

    def task(self, spec: Spec, work: PackModel, needs: tuple[TaskId, ...]) -> Task | None:
        """Return the task that scans a layer's files before it is packed; None if all of their verdicts are known.

        Other scanners may still read the last file when it ends: `settle` waits for them, before the layer is kept.
        Raises ModelError for a file that a known verdict refuses.
        """
        known = self._scanner.known(file.sha256 for file in work.files)
        self._apply(work.model, ((file, known[file.sha256]) for file in work.files if file.sha256 in known))
        unscanned = [file for file in work.files if file.sha256 not in known]
        if not unscanned:
            return None
        from buildkit.tasks.scheduler import Lane, Outcome, Task

        if any(Path(file.path).suffix not in _NO_PICKLES for file in unscanned):
            self._scanner.prepare()

        def action() -> Outcome:
            for file in unscanned:
                self.settle(spec)
                pending = _PendingScan(work.model, file, self._scan_in_steps(spec, work.model, file))
                if next(pending.steps).verdict is Verdict.FINDINGS:
                    self._finish(pending)
                else:
                    self._pending[spec.key] = pending
            return Outcome(size=sum(file.size for file in unscanned))

        total = max(file.size for file in unscanned)
        return Task(name=spec.name, phase="scan", lane=Lane.CPU, action=action, needs=needs, total=total)

    def settle(self, spec: Spec) -> None:
        """Wait for what other scanners say of a layer's last file; raises ModelError if it is refused."""
        if pending := self._pending.pop(spec.key, None):
            self._finish(pending)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Settle what nobody waited for, because another process has built the layer; end the other scanners.

        After a failure nothing is settled. Raises ModelError.
        """
        try:
            while self._pending:
                pending = self._pending.popitem()[1]
                pending.steps.close() if kind else self._finish(pending)
        finally:
            if "_scanner" in self.__dict__:
                self._scanner.close()

    def _finish(self, pending: _PendingScan) -> None:
        *_, scan = pending.steps
        self._apply(pending.model, [(pending.file, scan)])

    def _scan_in_steps(self, spec: Spec, model: Model, file: ModelFile) -> Generator[Scan]:
        try:
            with open_model_file(self._context, model, file) as content:
                _check_size(model, file, content)
                name, progress = model_file_name(model, file), self._context.progress(spec.name)
                yield from self._scanner.scan_in_steps(name, file.sha256, content, progress)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if isinstance(model.source, RepoSource):
                raise missing_model_file(self._context.project.folder, model, file) from None
            raise

    def check(self, model: Model) -> None:
        """Judge all files of a model, which must be here; raises ModelError, and what reading them raises."""
        known = self._scanner.known(file.sha256 for file in model.files)
        for file in model.files:
            scan = known.get(file.sha256)
            if scan is None:
                with open_model_file(self._context, model, file) as content:
                    scan = self._scan(f"{model.name}/{file.path}", model, file, content)
            self._apply(model, [(file, scan)])

    def check_reused(self, specs: Sequence[Spec]) -> None:
        """Judge the files of reused layers; raises ModelError.

        What the builder of a layer found by the present rules is believed, as its bytes are. Emits a note about
        files that have no verdict under the present rules and are not here: the verdict of the layer's builder stands.
        """
        works = {spec.key: spec.work for spec in specs if isinstance(spec.work, PackModel)}
        files = [(work.model, file) for work in works.values() for file in work.files]
        known = self._scanner.known(file.sha256 for _, file in files)
        for key, work in works.items():
            if unknown := [file.sha256 for file in work.files if file.sha256 not in known]:
                known |= self._scanner.known_of_layer(key, unknown)
        scans = self._find_scans(files, known)
        for (model, file), scan in zip(files, scans, strict=True):
            if scan is not None:
                self._apply(model, [(file, scan)])
        if absent := scans.count(None):
            what = format_count(absent, "model file")
            text = f"{what} of reused layers cannot be scanned by the present rules: not on this host"
            self._context.emit(Note(text=f"{text} (nox -s scan-models fetches and scans)"))

    def _find_scans(
        self, files: Sequence[tuple[Model, ModelFile]], known: Mapping[FileHash, Scan]
    ) -> list[Scan | None]:
        """Return the scan of each file, None of one that is not here; those without a verdict are scanned, at once."""
        if all(file.sha256 in known for _, file in files):
            return [known[file.sha256] for _, file in files]

        def find(place: tuple[Model, ModelFile]) -> Scan | None:
            with self._context.meter.phase("scan"):
                return known.get(place[1].sha256) or self._scan_if_present(*place)

        with WorkerPool(max(2, len(os.sched_getaffinity(0)))) as pool:
            try:
                return list(pool.map(find, files))
            except KeyboardInterrupt:
                self._context.stop.set()  # ends the scans, for which the pool waits
                raise

    def _scan_if_present(self, model: Model, file: ModelFile) -> Scan | None:
        try:
            with open_model_file(self._context, model, file) as content:
                return self._scan(f"{model.name}/{file.path}", model, file, content)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, MismatchError, LostError):
            return None  # the file is missing, or differs from the one in the layer

    def _scan(self, step: str, model: Model, file: ModelFile, content: BinaryIO) -> Scan:
        _check_size(model, file, content)
        return self._scanner.scan(model_file_name(model, file), file.sha256, content, self._context.progress(step))

    def _apply(self, model: Model, scans: Iterable[tuple[ModelFile, Scan]]) -> None:
        """Raise ModelError for a refused file; warn of files that pass although they were not fully scanned."""
        policy = self._context.project.unscanned_models
        for file, scan in scans:
            name = model_file_name(model, file)
            if is_clean(scan, name):
                continue
            judgement = judge(scan, name, file.sha256, self._allow)
            if judgement.is_refused(policy):
                raise refusal_error(name, judgement)
            for finding in judgement.findings:
                if finding.rule.id == "second-opinion-failed":
                    self._context.emit(Note(text=f"{name}: {finding.what}", warning=True))
            if judgement.verdict is Verdict.PARTIAL:
                what = "unknown format, so not scanned" if judgement.unknown else "not fully scanned"
                self._context.emit(Note(text=f"{name}: {what}", warning=True))


def _check_size(model: Model, file: ModelFile, content: BinaryIO) -> None:
    if os.fstat(content.fileno()).st_size != file.size:
        raise MismatchError(f"{model.name}: {file.path} has another size than its lock names")


def model_file_name(model: Model, file: ModelFile) -> str:
    """Return a file's name in findings: its path in the repository, or the model's name and the path in the model."""
    return file.source if isinstance(model.source, RepoSource) else f"{model.name}/{file.path}"


def refusal_error(name: str, judgement: Judgement) -> ModelError:
    """Return the error that stops a build: the file, the worst findings and why they matter; the hint gives advice."""
    from buildkit.report.findings_table import format_finding_counts, sort_worst_first

    findings = sort_worst_first(judgement.findings)
    partial = judgement.verdict is Verdict.PARTIAL
    head = "it could not be fully scanned" if partial else format_finding_counts(findings)
    lines = [f"{name}: refused: {head}", *(_format_finding(finding) for finding in findings[:_MAX_FINDINGS])]
    if len(findings) > _MAX_FINDINGS:
        lines.append(f"  … and {len(findings) - _MAX_FINDINGS} more (nox -s scan-models)")
    worst = findings[0].rule
    lines.append(f"  why: {worst.why}")
    accept = f'accept it in {ALLOW_FILE}: [[accept]] rule = "{worst.id}", sha256 = "{judgement.sha256.hex}", reason'
    return ModelError("\n".join(lines), hint=f"{worst.advice} If you have reviewed it and it is fine, {accept}")


def _format_finding(finding: Finding) -> str:
    from buildkit.report.findings_table import format_location, format_severity

    return f"  {format_severity(finding.severity)} {finding.rule.id}: {format_location(finding)}: {finding.what}"
