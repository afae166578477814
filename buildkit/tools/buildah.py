"""buildah: working containers that something runs in.

A command has no network unless its step asks for it. How that is enforced depends on the isolation:

- ``oci`` (and ``rootless``): the runtime makes an empty network namespace (``--network none``).
- ``chroot``: shares the network of buildah's own process and refuses ``--network``; so buildah is started inside an
  empty network namespace, as root by unshare(1), otherwise within the user namespace of ``buildah unshare``.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import secrets
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO, Protocol

from buildkit.errors import ToolError
from buildkit.tools.disk_full import is_disk_full
from buildkit.tools.process import Command, CommandResult, converse, find_tool, run
from buildkit.tools.secrets_folder_worker import FOUND

Mounts = Sequence[tuple[Path, str]]

PIPES = ("/mnt/out", "/mnt/in")

_POLL_SECONDS = 0.01
_UNKNOWN = b"container not known"
_PROBE = "/buildkit-probe"
_MISSED = re.compile(rb"(?:exec: \\?.|executable file .)" + _PROBE.encode())  # runc's words; crun's


class ContainerLease(Protocol):
    """A note that a container is about to be made, for whoever must remove it if we are killed."""

    @property
    def handle(self) -> int:
        """A descriptor; who has it holds the note."""

    def release(self) -> None:
        """Take the note back: the container is gone."""


LeaseContainer = Callable[[str], AbstractContextManager[ContainerLease | None]]
"""Notes the name of a container; `without_lease` does not."""


def without_lease(_name: str) -> AbstractContextManager[None]:
    """Note nothing."""
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingContainer:
    """A working container by its name."""

    name: str
    lease: LeaseContainer = without_lease


@contextmanager
def working_container(image: str, lease: LeaseContainer = without_lease) -> Iterator[WorkingContainer]:
    """A container of an image in local storage (``scratch`` for none); removed at the end, whatever happens.

    Raises ToolError; nothing is ever pulled.
    """
    # always a name of our own: two builds that start containers of one image at once would get the same one
    container = WorkingContainer(name=f"buildkit-{os.getpid()}-{secrets.token_hex(6)}", lease=lease)
    argv = ("buildah", "from", "--pull=never", "--quiet", *own_limits(), "--name", container.name, "--", image)
    with lease(container.name) as held:
        try:
            inherits = (held.handle,) if held else ()  # if we are killed, it may still make the container
            with _looking_at_storage():
                run(Command(argv=argv, what=f"starting a container of {image}", inherits=inherits))
            yield container
        finally:
            removed = run(Command(argv=("buildah", "rm", "--", container.name), accept=(0, 1, 125), is_cleanup=True))
            if held and (removed.code == 0 or _UNKNOWN in removed.stderr):
                held.release()


def remove_containers(names: Sequence[str]) -> frozenset[str]:
    """Remove working containers, running ones too; those of ``names`` that are gone. Raises ToolError."""
    run(Command(argv=("buildah", "rm", "--", *names), accept=(0, 1, 125), is_cleanup=True))
    there = run(Command(argv=("buildah", "containers", "--format", "{{.ContainerName}}"), what="listing containers"))
    return frozenset(names).difference(there.text.split())


@contextmanager
def mounted_secrets_folder(container: WorkingContainer) -> Iterator[None]:
    """Have something mounted at ``/run/secrets`` of a container, and no trace of it left there afterwards.

    The runtime makes the folder, and it would be committed. Raises ToolError for a root without a folder ``/run``.
    """
    looked = run(
        Command(argv=_passing_argv(container, "look"), accept=(0, FOUND), what=f"looking into {container.name}")
    )
    yield
    if looked.code != FOUND:
        run(Command(argv=_passing_argv(container, "tidy"), what=f"tidying {container.name}"))


def _passing_argv(container: WorkingContainer, action: str) -> tuple[str, ...]:
    argv = (sys.executable, "-I", "-c", _worker("secrets_folder_worker"), container.name, action)
    return argv if os.geteuid() == 0 else ("buildah", "unshare", "--", *argv)


def run_in(
    container: WorkingContainer, argv: Sequence[str], *, env: Mapping[str, str], network: bool, mounts: Mounts = ()
) -> CommandResult:
    """Run a command to its end; ``mounts`` (host path, path in the container) are bound read-only.

    With ``network`` it has the host's. A mount's target must exist in the image, or it appears in the layer.
    Raises ToolError with the command's output, MissingTool or Interrupted.
    """
    what = f"`{_short(argv)}` in {container.name}"
    with _looking_at_storage():
        return run(Command(argv=_run_argv(container, argv, env, network, mounts), what=what))


@contextmanager
def _looking_at_storage() -> Iterator[None]:
    """Say of a failure that the disk of local storage is full; buildah does not always say so (1.28 panics)."""
    try:
        yield
    except ToolError as error:
        asked = Command(argv=("buildah", "info", "--format", "{{.store.GraphRoot}}"), accept=tuple(range(256)))
        if error.hint or not is_disk_full(place := run(asked).text):
            raise
        hint = f"free some room at {place}; nox -s cache -- gc removes what is not needed"
        raise ToolError(f"{error.message}: the disk is full", hint=hint, output=error.output) from error


@contextmanager
def open_stream(container: WorkingContainer, argv: Sequence[str], folder: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A running command's input and output, without network; it has ended on leaving.

    Both are named pipes in ``folder``, which is empty: the command must open the first of `PIPES` for writing and
    then the second for reading. (Standard input and output pass through buildah, which sleeps for 100 ms whenever a
    pipe is full: a few megabytes take seconds.) On leaving, its input ends; raises ToolError with what it said on
    standard error if it fails, then or before it opened them, and kills it if the block raised.
    """
    for name in ("in", "out"):
        os.mkfifo(folder / name, 0o600)
    command = Command(
        argv=_run_argv(container, argv, {"PYTHONHASHSEED": "0"}, network=False, mounts=((folder, "/mnt"),)),
        what=f"`{_short(argv)}` in {container.name}",
    )
    # without blocking, for there is no writer yet; there is one when the command waits for us at the other pipe
    with os.fdopen(os.open(folder / "out", os.O_RDONLY | os.O_NONBLOCK), "rb") as output:
        with converse(command) as (_, said):
            handle = _await_reader(folder / "in", said)
            if handle is not None:
                os.set_blocking(output.fileno(), True)
                with os.fdopen(handle, "wb") as requests:
                    yield requests, output
                    with suppress(BrokenPipeError):  # it ended before it read everything: its exit code says more
                        requests.close()
                while output.read(1 << 20):
                    pass
        if handle is None:
            raise ToolError(f"{command.what}: ended before it began")


def _await_reader(path: Path, said: BinaryIO) -> int | None:
    """The writing end of a named pipe as soon as somebody reads it; None where ``said`` ends before."""
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        else:
            os.set_blocking(handle, True)
            return handle
        if select.select([said], [], [], _POLL_SECONDS)[0] and not os.read(said.fileno(), 1 << 16):
            return None


def commit(container: WorkingContainer, ref: str, folder: Path) -> str:
    """Commit what a container changed as ``ref``, with every time fixed; returns ``ref``. Raises ToolError.

    The layer is written to ``folder`` first; in /var/tmp it would stay if buildah is killed.
    """
    argv = (
        "buildah", "commit",
        "--timestamp", "0",  # the same bytes whenever it runs
        "--identity-label=false",  # buildah's version must not reach the image
        "--quiet",
        "--", container.name, ref,
    )  # fmt: skip
    with _looking_at_storage():
        run(Command(argv=argv, env={"TMPDIR": str(folder)}, what=f"committing {ref}", writes=(folder,)))
    return ref


def remove_image(ref: str) -> None:
    """Remove an image from local storage; one that is not there, or in use, is left alone."""
    run(Command(argv=("buildah", "rmi", "--", ref), accept=(0, 1, 2, 125), is_cleanup=True))


@cache
def isolation(lease: LeaseContainer = without_lease) -> str:
    """``oci`` where a runtime works here, else ``chroot``, unless BUILDAH_ISOLATION says; found out once."""
    said = os.environ.get("BUILDAH_ISOLATION", "")
    if said:
        return said
    if not any(find_tool(runtime) for runtime in ("crun", "runc")):
        return "chroot"
    try:
        with working_container("scratch", lease) as container:
            # A runtime that works gets as far as to miss this program, and names it. One that does not (no cgroups
            # for it, no permission) gives up before, with words of its own.
            argv = ("buildah", "run", "--isolation", "oci", "--network", "none", "--", container.name, _PROBE)
            finished = run(Command(argv=argv, accept=tuple(range(256))))
    except ToolError:
        return "chroot"
    return "oci" if _MISSED.search(finished.stderr) else "chroot"


def _run_argv(
    container: WorkingContainer, argv: Sequence[str], env: Mapping[str, str], network: bool, mounts: Mounts
) -> tuple[str, ...]:
    kind = isolation(container.lease)
    chroot = kind == "chroot"
    return (
        *(_without_network(os.geteuid()) if chroot and not network else ()),
        "buildah", "run",
        "--isolation", kind,
        *(() if chroot else ("--network", "host" if network else "none")),
        *(part for name, value in sorted(env.items()) for part in ("--env", f"{name}={value}")),
        *(part for source, target in mounts for part in ("--volume", f"{source}:{target}:ro")),
        "--", container.name, *argv,
    )  # fmt: skip


def own_limits() -> tuple[str, ...]:
    """Our own limits for the container: buildah asks for higher ones, which not every host grants.

    Older versions lower their processes to the kernel's highest process id first, and cannot go back.
    """
    files, processes = (resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
    highest = int(Path("/proc/sys/kernel/pid_max").read_text("ascii"))
    processes = min(processes[0], highest), min(processes[1], highest)
    bounded = {"nofile": files} if resource.RLIM_INFINITY in processes else {"nofile": files, "nproc": processes}
    return tuple(part for name, (soft, hard) in bounded.items() for part in ("--ulimit", f"{name}={soft}:{hard}"))


def _without_network(uid: int) -> tuple[str, ...]:
    """What starts a command in an empty network namespace, where only loopback answers."""
    # its loopback is down at first, and build systems and tests talk to themselves
    alone = ("unshare", "--net", "--", sys.executable, "-I", "-c", _worker("loopback_worker"))
    return alone if uid == 0 else ("buildah", "unshare", "--", *alone)


def _short(argv: Sequence[str]) -> str:
    return " ".join(argv)[:80].replace("\n", " ")


@cache
def _worker(name: str) -> str:
    """Return the text of a program of this package, which runs in an interpreter of its own."""
    return (files("buildkit.tools") / f"{name}.py").read_text("utf-8")
