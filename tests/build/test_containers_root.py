"""A root that cannot be stored: the program that makes it is stopped at once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from buildkit.build.containers import ContainerRunner, raise_if_known
from buildkit.build.layer_writer import LayerWriter
from buildkit.declare.stage import Run, Stage
from buildkit.errors import BuildError, FetchError, MismatchError, ToolError, VersionsGoneError
from buildkit.events import ignore_event
from buildkit.locks.pins import AptPin
from buildkit.plan.roots import RootComposer
from buildkit.store.blobs import Blobs


def test_mmdebstrap_is_stopped_if_packing_the_root_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the end of the interpreter, where the thread that reads its output would make Python abort."""
    seen: list[str] = []
    kept: list[Iterator[bytes]] = []

    def make(_spec: object, _place: object) -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            seen.append("ended")

    def pack(chunks: Iterator[bytes], *_: object) -> None:
        kept.append(chunks)  # as a traceback does
        next(chunks)
        raise BuildError("the disk is full")

    monkeypatch.setattr("buildkit.tools.mmdebstrap.stream_root", make)
    monkeypatch.setattr("buildkit.layers.root.pack.pack_root", pack)
    project = SimpleNamespace(compression="zstd", bytecode=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    context: Any = SimpleNamespace(
        project=project, blobs=Blobs(tmp_path), image_store=None, emit=ignore_event, progress=lambda _step: ignore_event
    )
    debian = SimpleNamespace(
        suite="trixie", variant="extract", components=("main",), exclude=(), users=(), drop_setuid=False
    )
    work: Any = SimpleNamespace(debian=debian, arch="amd64", pins=(), sources=())
    with ExitStack() as stack, pytest.raises(BuildError, match="full"):
        ContainerRunner(context, LayerWriter(blobs=context.blobs, store=context.image_store), stack).make_root(
            "base/root", work
        )
    assert seen == ["ended"]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.tools
def test_apt_step_whose_versions_are_gone_is_told_from_other_failures() -> None:
    """The output is apt's own; a step of the user's that installs packages has no lock that could be refreshed."""
    stage = Stage(name="builder", file="stages/builder/stage.toml", summary="", apt="builder.apt")
    pins = (AptPin(name="base-files", version="0.0"),)
    checkout: Any = SimpleNamespace(apt=lambda _list: pins, sources=lambda _list: "")
    step = RootComposer(SimpleNamespace(), checkout)._apt_step(stage, ())  # type: ignore[arg-type]
    argv = ("apt-get", "install", "--simulate", "-qq", "base-files=0.0")
    said = subprocess.run(argv, capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    error = ToolError("apt failed", output=said.stdout + said.stderr)
    with pytest.raises(VersionsGoneError, match=r"no longer has base-files=0\.0"):
        raise_if_known(step, error)
    raise_if_known(Run(name="mine", command=("apt-get", "install", "base-files=0.0")), error)
    raise_if_known(step, ToolError("apt failed", output="E: no space"))
    down = "W: Failed to fetch http://apt.example/x/InRelease  Could not connect\nE: Unable to locate package tool\n"
    with pytest.raises(FetchError, match=r"http://apt\.example/x could not be reached for builder\.apt"):
        raise_if_known(step, ToolError("apt failed", output=down))
    unsigned = "E: The repository 'http://apt.example x InRelease' is not signed.\n"
    with pytest.raises(MismatchError, match=r"apt\.example is not signed by the key that is given for it"):
        raise_if_known(step, ToolError("apt failed", output=unsigned))
