"""The reloader's own options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line; paths are absolute, times are seconds."""

    command: tuple[str, ...]
    control: Path | None = None
    state: Path | None = None
    watch: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    learn: bool = True
    probe: str = ""
    stop_seconds: float = 10.0
    start_seconds: float = 60.0
    debug: tuple[str, int] | None = None
    wait: bool = False
    poll: str = "auto"
    mode: str = "auto"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="reload", description="Run a Python server, and follow changes of its code.", allow_abbrev=False
    )
    parser.add_argument("--control", type=Path, metavar="PATH", help="socket for requests and events")
    parser.add_argument("--connect", type=Path, metavar="PATH", help="pass lines to and from such a socket instead")
    parser.add_argument("--state", type=Path, metavar="DIR", help="what is remembered from one start to the next")
    parser.add_argument("--watch", action="append", default=[], metavar="DIR", help="a folder of the application")
    parser.add_argument("--ignore", action="append", default=[], metavar="GLOB", help="names that do not matter")
    parser.add_argument("--keep", action="append", default=[], metavar="MODULE[:FUNCTION]", help="made once, shared")
    parser.add_argument("--preload", action="append", default=[], metavar="MODULE", help="imported once")
    parser.add_argument("--no-learn", dest="learn", action="store_false", help="preload nothing else")
    parser.add_argument("--probe", default="", metavar="/PATH", help="answers below 400 when a worker is ready")
    parser.add_argument("--stop-seconds", type=float, default=10.0, help="for requests to end (10)")
    parser.add_argument("--start-seconds", type=float, default=60.0, help="for a worker to become ready (60)")
    parser.add_argument("--debug", default="", metavar="HOST:PORT", help="where a debugger may attach")
    parser.add_argument("--wait", action="store_true", help="run nothing before it has")
    parser.add_argument("--poll", choices=("auto", "always", "never"), default="auto", help="look for changes itself")
    parser.add_argument("--mode", choices=("auto", "fresh", "restart"), default="auto", help="how workers are made")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    return parser


def parse_options(arguments: Sequence[str]) -> Options | Path:
    """Return the options, or the socket's path of ``--connect``; ends the process with 2 where they are wrong."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    if given.connect is not None:
        path: Path = given.connect
        return path
    command = tuple(given.command[1:] if given.command[:1] == ["--"] else given.command)
    if not command:
        parser.error("name the command of the service after --")
    host, _, port = given.debug.rpartition(":")
    if given.debug and not port.isdigit():
        parser.error(f"--debug: {given.debug!r} is not HOST:PORT")
    if given.wait and not given.debug:
        parser.error("--wait: add --debug HOST:PORT")
    return Options(
        command=command,
        control=given.control and given.control.absolute(),
        state=given.state and given.state.absolute(),
        watch=tuple(str(Path(folder).absolute()) for folder in given.watch or ["."]),
        ignore=tuple(given.ignore),
        keep=tuple(given.keep),
        preload=tuple(given.preload),
        learn=given.learn,
        probe=given.probe,
        stop_seconds=given.stop_seconds,
        start_seconds=given.start_seconds,
        debug=(host or "127.0.0.1", int(port)) if given.debug else None,
        wait=given.wait,
        poll=given.poll,
        mode=given.mode,
    )
