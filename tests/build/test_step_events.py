"""Every step that starts also ends: where the work fails, the step fails with the first line of the error."""

from __future__ import annotations

import io
import tarfile
from types import SimpleNamespace
from typing import Any

import pytest

from buildkit.build import native_check, stage_build
from buildkit.build.context import BuildContext
from buildkit.build.publisher import Publisher
from buildkit.build.stage_build import StageBuild
from buildkit.declare.stage import Config
from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError, Interrupted, ToolError
from buildkit.events import Event, StepFailed, StepFinished, StepStarted
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob
from buildkit.oci.image import Image
from buildkit.oci.reference import parse_ref

IMAGE = Image(layers=(), config=Config(), arch="amd64")
REF = parse_ref("registry.example/my/app:1", "REF")
ERROR = ToolError("it broke\nbadly")


def fail(*_arguments: object) -> Any:
    raise ERROR


def test_failed_import_into_storage_fails_its_step(
    context: BuildContext, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_build, "import_image", fail)
    planner: Any = SimpleNamespace(context=context, graph=SimpleNamespace(stages={}))
    options: Any = SimpleNamespace(no_import=False, delivery="")
    build = StageBuild(planner, options, (), None)
    composition = SimpleNamespace(stage=SimpleNamespace(models_of=""))
    plan = SimpleNamespace(composition=composition)
    planned: Any = SimpleNamespace(ref="localhost/p/app:latest", stored=None, plan=plan)
    with pytest.raises(ToolError):
        build._deliver(IMAGE, planned)
    step = {"step": "localhost/p/app:latest", "phase": "import"}
    assert events == [StepStarted(**step), StepFailed(**step, message="it broke")]
    assert "import" in context.meter.read()


def test_failed_push_fails_its_step_and_counts_nothing(context: BuildContext, events: list[Event]) -> None:
    planner: Any = SimpleNamespace(context=context)
    plan: Any = SimpleNamespace(composition=None)
    publisher = Publisher(planner, plan, (REF,), None)
    push: Any = SimpleNamespace(run=fail)
    with pytest.raises(ToolError):
        publisher._run_push(push, IMAGE)
    step = {"step": str(REF), "phase": "push"}
    assert events == [StepStarted(**step), StepFailed(**step, message="it broke")]
    assert context.tally.read().pushed == 0


def test_failed_attestation_fails_its_step(
    context: BuildContext, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    from buildkit.build import attestations

    monkeypatch.setattr(attestations, "attach_attestations", fail)
    request = attestations.AttestationRequest(attest=True)
    planner: Any = SimpleNamespace(context=context)
    plan: Any = SimpleNamespace(composition=None)
    publisher = Publisher(planner, plan, (REF,), request)
    with pytest.raises(ToolError):
        publisher._attest(IMAGE)
    step = {"step": str(REF), "phase": "attest"}
    assert events == [StepStarted(**step), StepFailed(**step, message="it broke")]


def tar_of(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("usr/lib/libx.so")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def keep_blob(context: BuildContext, data: bytes) -> Blob:
    context.blobs.path(Digest.of(data)).write_bytes(data)
    sizes = {"size": len(data), "unpacked": len(data)}
    return Blob(digest=Digest.of(data), diff_id=DiffId.of(data), compression=Compression.NONE, **sizes)


def test_reading_libraries_of_a_damaged_large_blob_fails_its_step(
    context: BuildContext, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_check, "_LARGE_TAR_BYTES", 1)
    blob = keep_blob(context, tar_of(b"x" * 2000)[:1000])
    with pytest.raises((BuildError, ValueError)):
        native_check._read_blob("base/root", blob, context)
    assert events[0] == StepStarted(step="libraries of base/root", phase="look", total=blob.unpacked)
    assert isinstance(events[-1], StepFailed)


def test_reading_libraries_stops_when_asked_to_and_fails_its_step(
    context: BuildContext, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_check, "_LARGE_TAR_BYTES", 1)
    blob = keep_blob(context, tar_of(b"x"))
    context.stop.set()
    with pytest.raises(Interrupted):
        native_check._read_blob("base/root", blob, context)
    assert isinstance(events[-1], StepFailed)


def test_reading_libraries_of_a_small_blob_shows_no_step(context: BuildContext, events: list[Event]) -> None:
    native_check._read_blob("base/root", keep_blob(context, tar_of(b"x")), context)
    assert not [event for event in events if isinstance(event, StepStarted | StepFinished | StepFailed)]
