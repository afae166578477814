"""Start a container, relay its output, and remove it when it ends."""

from __future__ import annotations

import posixpath
import re
import shlex
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, TextIO

from buildkit.errors import BuildError, Interrupted, ToolError
from buildkit.inspection.stage_container import grant_own_gpus, missing_needs, prepare_network, warn_of_lacks
from buildkit.report.text import sanitize
from buildkit.running.flags import ContainerSpec, run_argv
from buildkit.running.host import find_unsupported
from buildkit.tools import podman, process

_KEPT_BYTES = 4096
_NOT_WRITTEN = re.compile(
    r"(?:Read-only file system|EROFS|Permission denied|EACCES)[^/\n]{0,40}(?P<path>/[^'\"\s,:]+)?", re.IGNORECASE
)
_NOT_REACHED = re.compile(
    r"Network is unreachable|ENETUNREACH|EAI_AGAIN|name resolution|Name or service not known|could not resolve host",
    re.IGNORECASE,
)
_KILLED = 137  # by SIGKILL
_DATABASE = re.compile(
    r"(?:'(?P<path>/[^'\n]+)': )?(?:unable to open database file|attempt to write a readonly database)"
)


def start_container(container: ContainerSpec, *, detach: bool = False, strict: bool = False) -> int:
    """Start a container and print its command; return its exit code, or 0 if it is detached.

    Warnings say what this host cannot apply; with ``strict`` they are an error, and nothing is started. A container
    that is not detached is removed at its end, with its network, whatever happens. Raises BuildError, also for GPUs
    that it cannot have, and Interrupted.
    """
    with grant_own_gpus(container, sys.stderr) as granted:
        return _start(granted, detach=detach, strict=strict)


def _start(container: ContainerSpec, *, detach: bool, strict: bool) -> int:
    with prepare_network(container, keep=detach) as host:
        lacks = find_unsupported(container, host)
        warn_of_lacks(lacks, sys.stderr)
        if strict and lacks:
            raise BuildError(
                f"this host cannot run {container.image} as strictly as it should be",
                hint="--no-strict runs it without the flags that were named",
            )
        how, omitted = "--detach" if detach else "--rm", missing_needs(lacks)
        argv = run_argv(container.on_this_host(), how, lacking=omitted, needed=host.options)
        sys.stderr.write(f"$ {shlex.join(argv)}\n")
        sys.stderr.flush()
        if not detach:
            return _attend(container, argv)
        try:
            podman.start_detached(argv)
        except ToolError as error:
            if _is_ours(error.output.encode()):  # podman leaves one that it made, and could not start
                podman.remove(container.name)
            raise
        sys.stdout.write(f"{container.name}\n")
        sys.stderr.write(f"{_format_addresses(container)}podman rm --force {container.name} ends it\n")
        return 0


def _attend(container: ContainerSpec, argv: Sequence[str]) -> int:
    """Relay the output of the container until it ends; an interrupt stops and removes it."""
    errors, output = bytearray(), bytearray()
    patience = container.running.stop_seconds
    began = False
    try:
        with process.start(process.Command(argv=tuple(argv), grace=patience + 10.0)) as child:
            began = True
            assert child.stdout is not None  # noqa: S101 - pipes
            assert child.stderr is not None  # noqa: S101
            pumps = (
                threading.Thread(target=_pump, args=(child.stdout, sys.stdout, output), daemon=True),
                threading.Thread(target=_pump, args=(child.stderr, sys.stderr, errors), daemon=True),
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
        if began and _is_ours(errors):
            podman.remove(container.name)
    if code == podman.FAILED:
        raise ToolError(
            f"podman could not start {container.name}", hint=podman.find_hint(errors.decode("utf-8", "replace"))
        )
    if code:
        sys.stderr.write(explain_failure((output + b"\n" + errors).decode("utf-8", "replace"), code, container))
    return code if code >= 0 else 128 - code


def explain_failure(output: str, code: int, container: ContainerSpec) -> str:
    """Return a hint if a container's exit code, or the end of its output, tells of a limit of ours, else nothing."""
    running = container.running
    if code == _KILLED:
        return (
            f"hint: {container.name} was killed; if it needs more memory than {running.memory}, say so in the stage's "
            "[running]: memory\n"
        )
    if not running.outgoing and _NOT_REACHED.search(output):
        return f"hint: {container.name} reaches no other host, unless the stage's [running] says: outgoing = true\n"
    return explain_read_only(output, container.name)


def explain_read_only(output: str, name: str) -> str:
    """Return a hint if the end of a container's output tells of a folder that it could not write, else nothing."""
    found = _NOT_WRITTEN.search(output) or _DATABASE.search(output)
    if found is None:
        return ""
    path = found["path"] or ""
    folder = posixpath.dirname(path) if path.startswith("/") else ""
    where = f"{sanitize(path)} could not be written: " if path else ""
    mounted = folder if folder not in ("", "/", "/tmp") else "/FOLDER"  # noqa: S108 - the container's
    return (
        f"hint: {where}the image is read-only in {name}; write below /tmp, or name a folder in memory in the stage's "
        f'[running]: tmpfs = {{ "/tmp" = "64m", "{sanitize(mounted)}" = "64m" }} (it hides what the image has there); '
        "or mount a volume: --option=--volume=NAME:/FOLDER\n"
    )


def _is_ours(errors: bytes | bytearray) -> bool:
    """Return whether we started the container of this name: podman refuses a name that another container has."""
    return b"is already in use" not in errors


def _pump(pipe: BinaryIO, out: TextIO, tail: bytearray) -> None:
    """Copy ``pipe`` to ``out`` unchanged, but without escapes to a terminal; keep the last bytes in ``tail``."""
    terminal = out.isatty()
    with suppress(BrokenPipeError, ValueError):  # the reader has left, or the interpreter is exiting
        while chunk := pipe.read1(1 << 16) if hasattr(pipe, "read1") else pipe.read(1 << 16):
            tail += chunk
            del tail[:-_KEPT_BYTES]
            if terminal:
                out.write(sanitize(chunk.decode("utf-8", "replace")))
            else:
                out.buffer.write(chunk)
            out.flush()


def _format_addresses(container: ContainerSpec) -> str:
    if not container.ports:
        return ""
    published = podman.inspect_container(container.name)["NetworkSettings"]["Ports"]
    return "".join(f"http://127.0.0.1:{bound[0]['HostPort']}/\n" for bound in published.values() if bound)
