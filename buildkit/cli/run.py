"""``nox -s run-STAGE``: builds a stage and starts its image with the recommended flags."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TextIO

from buildkit.build.planner import Planner, open_planner
from buildkit.cli.options import BuildOptions, Parser, RemoteCacheOptions, add_remote_cache_arguments
from buildkit.errors import BuildError, Interrupted, ToolError
from buildkit.report.text import clean
from buildkit.report.view import open_view
from buildkit.running.flags import Container, make_container, network_argv, run_argv
from buildkit.running.host import Host, Lack, find_lacks
from buildkit.running.render import render_command, render_compose, render_quadlet
from buildkit.tools import podman, process

_KEPT = 4096


def run_stage(folder: Path, stage: str, arguments: Sequence[str]) -> int:
    """Build a stage and run its image, or print how it would be; returns the container's exit code.

    Raises DefinitionError or BuildError.
    """
    options = _parse(stage, arguments)
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        container = describe(planner, stage, name=options.name, host_port=options.port)
    container = replace(container, options=tuple(options.option), command=tuple(options.command))
    if options.shown:
        sys.stdout.write(SHOWN[options.shown](container))
        return 0
    if not options.no_build:
        from buildkit.build.pipeline import build_stages

        build_stages(
            folder, (stage,), BuildOptions(jobs=len(os.sched_getaffinity(0)), share=RemoteCacheOptions.of(options))
        )
    elif podman.find_image_config(container.image) is None:
        raise BuildError(f"{container.image} is not in local storage", hint=f"nox -s build-{stage}")
    return start(container, detach=options.detach, strict=options.strict)


def describe(planner: Planner, stage: str, *, name: str = "", host_port: int | None = None) -> Container:
    """The container of a stage, from its files alone; raises DefinitionError."""
    config = planner.composer.compose(stage).config
    project = planner.context.project
    running = planner.graph.resolve(stage).running
    name = name or f"{project.name}-{stage}"
    return make_container(project.ref(stage), name, config, running, host_port=host_port)


def start(container: Container, *, detach: bool = False, strict: bool = False) -> int:
    """Start a container, say its command and what this host cannot do of it; returns its exit code, or 0 if detached.

    One that is not detached is removed at its end, with its network, whatever happens. Raises BuildError.
    """
    with prepared(container, keep=detach) as host:
        lacks = find_lacks(container, host)
        report_lacks(lacks, sys.stderr)
        if strict and lacks:
            raise BuildError(f"this host cannot run {container.image} as strictly as it should be")
        argv = run_argv(container, "--detach" if detach else "--rm", lacking=lacking(lacks), needed=host.options)
        sys.stderr.write(f"$ {shlex.join(argv)}\n")
        sys.stderr.flush()
        if not detach:
            return _attend(container, argv)
        podman.start_detached(argv)
        sys.stdout.write(f"{container.name}\n")
        sys.stderr.write(f"{_say_ports(container)}podman rm --force {container.name} ends it\n")
        return 0


@contextmanager
def prepared(container: Container, *, keep: bool = False) -> Iterator[Host]:
    """What the host can do, with the container's network made; it is removed at the end unless it is to be kept."""
    host = podman.probe_host()
    if not container.closed:
        yield host
        return
    closes = host.may_close and podman.ensure_network(network_argv(container))
    done = False
    try:
        yield replace(host, closes=closes)
        done = True
    finally:
        if closes and not (done and keep):
            podman.remove_network(container.name)


def report_lacks(lacks: Sequence[Lack], out: TextIO) -> None:
    """Say what is weaker here than it should be."""
    out.writelines(f"warning: {clean(lack.what)}\nhint: {clean(lack.hint)}\n" for lack in lacks)
    out.flush()


def lacking(lacks: Sequence[Lack]) -> frozenset[str]:
    """What flags need that the host lacks."""
    return frozenset(lack.needs for lack in lacks)


def _attend(container: Container, argv: Sequence[str]) -> int:
    """Pass on what the container says until it ends; where we are interrupted, it is stopped and removed."""
    said = bytearray()
    patience = container.running.stop_seconds
    began = False
    try:
        with process.start(process.Command(argv=tuple(argv), patience=patience + 10.0)) as child:
            began = True
            assert child.stdout is not None  # noqa: S101 - pipes
            assert child.stderr is not None  # noqa: S101
            pumps = (
                threading.Thread(target=_pump, args=(child.stdout, sys.stdout, bytearray()), daemon=True),
                threading.Thread(target=_pump, args=(child.stderr, sys.stderr, said), daemon=True),
            )
            for pump in pumps:
                pump.start()
            try:
                code = child.wait()
            except KeyboardInterrupt:
                sys.stderr.write(f"stopping {container.name}\n")
                podman.stop(container.name, patience)
                podman.remove(container.name)
                child.wait()
                raise Interrupted("interrupted") from None
            for pump in pumps:
                pump.join()
    finally:
        if began and _is_ours(said):
            podman.remove(container.name)
    if code == podman.FAILED:
        raise ToolError(
            f"podman could not start {container.name}", hint=podman.explain(said.decode("utf-8", "replace"))
        )
    return code if code >= 0 else 128 - code


def _is_ours(said: bytearray) -> bool:
    """Whether the container is one that we started: a name that was taken is somebody else's."""
    return b"is already in use" not in said


def _pump(pipe: BinaryIO, out: TextIO, tail: bytearray) -> None:
    """Pass a container's words on, as they are; to a terminal without escapes. Keep the last of them."""
    terminal = out.isatty()
    with suppress(BrokenPipeError, ValueError):  # nobody reads any more; or we are leaving
        while chunk := pipe.read1(1 << 16) if hasattr(pipe, "read1") else pipe.read(1 << 16):
            tail += chunk
            del tail[:-_KEPT]
            if terminal:
                out.write(clean(chunk.decode("utf-8", "replace")))
            else:
                out.buffer.write(chunk)
            out.flush()


def _say_ports(container: Container) -> str:
    if not container.ports:
        return ""
    published = podman.inspect_container(container.name)["NetworkSettings"]["Ports"]
    found = (f"http://127.0.0.1:{said[0]['HostPort']}/" for said in published.values() if said)
    return "".join(f"{address}\n" for address in found)


def _render_units(container: Container) -> str:
    return "\n".join(f"# {name}\n{text}" for name, text in render_quadlet(container))


SHOWN = {"print": render_command, "compose": render_compose, "quadlet": _render_units}


def _parse(stage: str, arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog=f"nox -s run-{stage} --")
    shown = parser.add_mutually_exclusive_group()
    for name, what in (("print", "commands"), ("compose", "compose file"), ("quadlet", "units for systemd")):
        shown.add_argument(
            f"--{name}", dest="shown", action="store_const", const=name, help=f"print the {what}, no more"
        )
    parser.add_argument(
        "--port", type=_port, metavar="N", help="publish the first port as N; 0: all as any that is free"
    )
    parser.add_argument("--name", default="", help="of the container, and of its network; PROJECT-STAGE unless said")
    parser.add_argument("--detach", action="store_true", help="leave it running, and print its name")
    parser.add_argument("--no-build", action="store_true", help="run what local storage has")
    parser.add_argument("--strict", action="store_true", help="fail where this host cannot apply a flag")
    parser.add_argument(
        "--option", action="append", default=[], metavar="OPTION", help="one more of podman run (--option=--gpus=all)"
    )
    add_remote_cache_arguments(parser)
    parser.add_argument("command", nargs="*", metavar="WORD", help="another command, after --")
    return parser.parse_args(list(arguments))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"must be a port, or 0, not {text!r}")
    return int(text)
