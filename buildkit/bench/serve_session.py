"""The two measurements of ``bench-serve``: this service against an earlier one, and against the guide's."""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from buildkit.bench.host import describe_machine, describe_podman_host
from buildkit.bench.serve_bench import ServeSamples, measure_services
from buildkit.bench.serve_claims import MANY, WHAT, render_claims
from buildkit.bench.serve_container import ServedImage
from buildkit.bench.serve_guide import NAME, build_guide
from buildkit.bench.serve_load import Load, make_clip
from buildkit.bench.serve_tables import render_loads, render_machine
from buildkit.declare.project import load_project
from buildkit.tools.process import Command, run

OURS = "this"
BEFORE = "before"
_CLIENTS = (1, 10, 50, 200)
_SHORT = {1: 100, 10: 50, 50: 20, 200: 5}  # requests of each client
_LONG = {1: 10, 10: 4, 50: 2, 200: 1}
_CLAIMED = {1: 60, 10: 20, 200: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeBenchRequest:
    """The stage to serve; ``before`` is a commit whose application is measured beside it, empty for none.

    ``application`` is its folder in the repository, ``target`` that in the image. ``options`` go to ``podman run``.
    ``many`` are the requests of each of 50 clients for the claims; an error rate of 0.1 % is five of 5,000.
    """

    folder: Path
    stage: str
    before: str = ""
    application: str = "stages/runtime/app"
    target: str = "/app"
    root: str = "base"
    starts: int = 5
    many: int = 100
    options: tuple[str, ...] = ()


def compare_service(request: ServeBenchRequest, say: Callable[[str], None]) -> str:
    """Measure short and long audio at several numbers of clients; return Markdown. Raises BuildError and ToolError."""
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as place:
        folder = Path(place)
        ours = ServedImage(name=OURS, image=_build(request, request.stage), options=request.options)
        images = [*_earlier(request, ours, folder), ours]
        clips = {"short": make_clip(folder / "short.wav", 2), "long": make_clip(folder / "long.wav", 22)}
        loads = [
            (what, Load(clip=clips[what], clients=clients, requests=requests[clients]))
            for what, requests in (("short", _SHORT), ("long", _LONG))
            for clients in _CLIENTS
        ]
        machine = _describe(request)
        samples = measure_services(images, loads, folder, request.starts, say)
        return machine + _describe_clips(clips) + "\n" + render_loads(samples)


def hold_claims(request: ServeBenchRequest, say: Callable[[str], None]) -> str:
    """Build the guide's service and measure it beside ours; return Markdown. Raises BuildError and ToolError."""
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as place:
        folder = Path(place)
        ours = ServedImage(name=OURS, image=_build(request, request.stage), options=request.options)
        guide = build_guide(_build(request, request.root), folder / "guide")
        clip = make_clip(folder / "short.wav", 1)
        claimed = sorted({**_CLAIMED, MANY: request.many}.items())
        loads = [(WHAT, Load(clip=clip, clients=clients, requests=each)) for clients, each in claimed]
        machine = _describe(request)
        samples = measure_services([guide, ours], loads, folder, request.starts, say)
        return machine + _describe_clips({WHAT: clip}) + "\n" + _render_claims(samples)


def _render_claims(samples: ServeSamples) -> str:
    return render_claims(samples, NAME, OURS) + "\n" + render_loads(samples)


def _build(request: ServeBenchRequest, stage: str) -> str:
    """Build a stage; return the name of its image."""
    argv = (sys.executable, "-P", "-m", "buildkit", "build", stage)
    run(Command(argv=argv, cwd=request.folder, what=f"building {stage}"))
    return load_project(request.folder).ref(stage)


def _earlier(request: ServeBenchRequest, ours: ServedImage, folder: Path) -> list[ServedImage]:
    """Return the image with the application of the commit ``before``, mounted; nothing without one."""
    if not request.before:
        return []
    argv = ("git", "archive", "--format=tar", request.before, "--", request.application)
    archive = run(Command(argv=argv, cwd=request.folder, what=f"reading the application of {request.before}"))
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder / "before", filter="data")
    folder.chmod(0o755)
    mount = f"--volume={folder / 'before' / request.application}:{request.target}:ro"
    return [ServedImage(name=BEFORE, image=ours.image, options=(*request.options, mount))]


def _describe(request: ServeBenchRequest) -> str:
    argv = ("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    commit = run(Command(argv=argv, cwd=request.folder, what="naming the commit")).text
    return render_machine(describe_machine(request.folder), describe_podman_host(), commit)


def _describe_clips(clips: dict[str, Path]) -> str:
    words = [f"{name} {_seconds(path):.1f} s, {path.stat().st_size / 1000:.0f} kB" for name, path in clips.items()]
    return f"Speech by espeak-ng as WAV, mono, 22,050 Hz: {'; '.join(words)}.\n"


def _seconds(path: Path) -> float:
    return (path.stat().st_size - 44) / (2 * 22_050)
