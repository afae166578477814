"""One session of profiling: its passes, its folder, which appears whole or not at all, and its summary."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from buildkit.errors import BuildError, DefinitionError
from buildkit.inspection.profile_exchange import MOST_BYTES, TOO_LONG, Exchange
from buildkit.inspection.profile_run import Profiling, profile_cpu, profile_inside
from buildkit.profiling.summary import ProfileSummary
from buildkit.profiling.trace_events import read_events
from buildkit.profiling.trace_files import (
    FileMemory,
    FunctionTime,
    OperatorTime,
    TraceError,
    merge_operators,
    parse_json_trace,
    render_memory,
    render_samples,
    sum_functions,
    sum_memory,
    sum_onnx,
    sum_torch,
)

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class _Found:
    """What the passes have found so far; traces are written below ``folder``."""

    folder: Path
    loads: dict[str, dict[str, object]] = field(default_factory=dict)
    functions: list[FunctionTime] = field(default_factory=list)
    operators: list[OperatorTime] = field(default_factory=list)
    memory: list[FileMemory] = field(default_factory=list)
    peak: int = 0
    notes: list[str] = field(default_factory=list)


def run_profile(profiling: Profiling, passes: Sequence[str], where: tuple[str, Path], say: Say) -> ProfileSummary:
    """Profile a stage (``where``: its name, and the folder of its profiles) and write traces and ``summary.json``.

    Raises BuildError, and DefinitionError while another session profiles the stage.
    """
    stage, folder = where
    with _whole_folder(folder) as (made, final):
        found = _Found(folder=made)
        for one in passes:
            say(f"profiling {one}: {profiling.seconds} s under load")
            with tempfile.TemporaryDirectory(dir=made, prefix=".pass-") as scratch:
                _run_pass(profiling, one, Path(scratch), found)
        _note_lacks(found, passes)
        summary = ProfileSummary(
            stage=stage,
            image=profiling.container.image,
            folder=str(final),
            loads=found.loads,
            functions=tuple(found.functions),
            operators=tuple(merge_operators(found.operators)),
            memory=tuple(sorted(found.memory, key=lambda one: -one.bytes)),
            peak=found.peak,
            files=tuple(sorted(path.name for path in made.iterdir())),
            notes=tuple(found.notes),
        )
        (made / "summary.json").write_text(json.dumps(summary.as_json(), indent=2) + "\n", "utf-8")
    return summary


@contextmanager
def _whole_folder(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a private folder and the one that it becomes if the block ends well; otherwise it is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DefinitionError(f"another session profiles this stage into {folder}", hint="wait for it") from None
        for left in folder.glob(".making-*"):  # of a session that was killed
            shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(dir=folder, prefix=".making-"))
        try:
            now = datetime.now(UTC)
            final = folder / f"{now:%Y-%m-%dT%H-%M-%S}.{now.microsecond // 1000:03}"
            yield made, final
            made.chmod(0o755)
            made.rename(final)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    finally:
        os.close(lock)


def _run_pass(profiling: Profiling, name: str, scratch: Path, found: _Found) -> None:
    if name == "cpu":
        trace = found.folder / "cpu.speedscope.json"
        counts = profile_cpu(profiling, trace)
        if trace.stat().st_size > MOST_BYTES:
            raise BuildError(f"the trace has more than {MOST_BYTES >> 20} MiB", hint=TOO_LONG)
        with _noting(found):
            document = render_samples(parse_json_trace(trace.read_bytes(), trace.name), trace.name)
            trace.write_text(json.dumps(document), "utf-8")
            found.functions = sum_functions(document, trace.name)
    else:
        counts, exchange = profile_inside(profiling, name, scratch)
        _collect(exchange, name, found)
    found.loads[name] = counts.as_json()
    if counts.failed:
        found.notes.append(f"{name}: {counts.failed} of {counts.answered} requests failed")


def _collect(exchange: Exchange, name: str, found: _Found) -> None:
    with _noting(found):
        for report in exchange.reports():
            found.notes += [f"{name}: {problem}" for problem in report.problems]
            found.peak = max(found.peak, report.peak)
            for file in report.files:
                with _noting(found):
                    _take(exchange, file, report.skip.get(file, 0.0), found)


def _take(exchange: Exchange, file: str, skip: float, found: _Found) -> None:
    """Sum one trace, and keep it in the folder."""
    kind, target = file.partition("-")[0], found.folder / file
    if kind == "memory":
        document = parse_json_trace(exchange.read(file), file)
        found.memory += sum_memory(document, file)
        name = f"{file.removesuffix('.json')}.speedscope.json"
        (found.folder / name).write_text(json.dumps(render_memory(document, name, file)), "utf-8")
        return
    exchange.copy(file, target)
    try:
        with target.open("rb") as copied:
            events = read_events(copied, file)
            found.operators += sum_onnx(events, file, skip) if kind == "onnxruntime" else sum_torch(events, file)
    except TraceError:
        target.unlink()
        raise


@contextmanager
def _noting(found: _Found) -> Iterator[None]:
    try:
        yield
    except TraceError as error:
        found.notes.append(str(error))


def _note_lacks(found: _Found, passes: Sequence[str]) -> None:
    """Say what a reader would miss."""
    if "frameworks" in passes:
        if not found.operators:
            found.notes.append("frameworks: the service ran no operator of ONNX Runtime or torch under load")
        if not any(one.where.startswith("GPU") for one in found.operators):
            found.notes.append("frameworks: no GPU was used: there are no kernels")
    if "memory" in passes:
        found.notes.append("memory: only what Python allocates is counted by file; the peak counts native memory, too")
