"""Builds as traces, where the environment names a collector: the session, its stages, and their layers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import buildkit
from buildkit.declare.project import load_project
from buildkit.errors import BuildkitError
from buildkit.events import Emit, Note
from buildkit.report.build_report import LayerLine, Report
from buildkit.tasks.trace_recorder import TraceRecorder
from buildkit.tools.traces import SpanValue, TraceSettings, load_trace_settings

_KEY = "xoe.layer.key"


@contextmanager
def traced_session(folder: Path, session: str, stages: Sequence[str], emit: Emit) -> Iterator[TraceRecorder | None]:
    """Yield a recorder of the block, and send what it recorded, also of a block that fails.

    Yields None if there is nothing to send to. Whatever is wrong with the trace is a warning, never an error.
    """
    settings = _find_settings(emit)
    if settings is None:
        yield None
        return
    recorder = TraceRecorder()
    try:
        with recorder.scope(session, {"xoe.session": session}):
            yield recorder
    finally:
        from buildkit.tools.otlp import send_trace

        resource = {
            "service.name": "xoe-buildkit",
            "service.version": buildkit.__version__,
            **_name_project(folder),
            **({"xoe.stage": " ".join(stages)} if stages else {}),
        }
        if why := send_trace(recorder.read(), resource, settings, os.environ):
            _warn(emit, f"the trace of this build is lost: {settings.host}: {why}")


@contextmanager
def traced_stage(recorder: TraceRecorder, stage: str, arch: str) -> Iterator[list[Report]]:
    """Record the block as the span of a stage; it appends the report to the list that this yields."""
    reports: list[Report] = []
    about = {"xoe.stage": stage} | ({"xoe.arch": arch} if arch else {})
    with recorder.scope(f"stage {stage}", about) as notes:
        yield reports
        for report in reports:
            notes.update(_describe(report))
            for key in dict.fromkeys(line.key for line in report.layers):
                _record_layer(recorder, [line for line in report.layers if line.key == key])


def _find_settings(emit: Emit) -> TraceSettings | None:
    try:
        settings = load_trace_settings(os.environ)
        if settings is not None:
            import buildkit.tools.otlp  # noqa: F401 - tells before the build whether it is there
    except BuildkitError as error:
        _warn(emit, f"this build is not traced: {error.message}: {error.hint}")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("opentelemetry"):
            raise
        _warn(emit, "this build is not traced: the SDK is not installed: pip install 'xoe-buildkit[tracing]'")
    else:
        return settings
    return None


def _name_project(folder: Path) -> dict[str, str]:
    try:
        return {"xoe.project": load_project(folder).name}
    except BuildkitError:
        return {}  # the build reports what is wrong with its settings


def _describe(report: Report) -> dict[str, SpanValue]:
    return {
        "xoe.image": report.image,
        "xoe.image.digest": report.digest,
        "xoe.delivery": report.delivery,
        "xoe.bytes.fetched": report.fetched,
        "xoe.bytes.built": report.built,
        "xoe.bytes.imported": report.imported,
        "xoe.bytes.pushed": report.pushed,
    }


def _record_layer(recorder: TraceRecorder, lines: Sequence[LayerLine]) -> None:
    """Note what the report says of a layer's blobs; one that no task made is a span without duration."""
    first = lines[0]
    about: dict[str, SpanValue] = {
        "xoe.layer.name": first.name,
        "xoe.layer.kind": first.kind,
        "xoe.layer.source": first.source,
        "xoe.layer.bytes": sum(line.size for line in lines),
        **({"xoe.layer.why": first.why} if first.why else {}),
    }
    if not recorder.note_last(_KEY, first.key, about):
        with recorder.span(f"{first.source} {first.name}", {_KEY: first.key, **about}):
            pass


def _warn(emit: Emit, text: str) -> None:
    emit(Note(text=text, warning=True))
