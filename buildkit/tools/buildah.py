"""buildah: working containers and the commands that run in them.

A command has no network unless its step requests it, and sees no process, device or shared memory of the host; see
`Isolation`.
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
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol

from buildkit.errors import ToolError
from buildkit.lazy_dataclass import dataclass
from buildkit.tools.disk_full import is_disk_full
from buildkit.tools.isolation import Isolation, in_user_namespace, worker_text
from buildkit.tools.process import Command, CommandResult, converse, find_tool, run
from buildkit.tools.secrets_folder_worker import FOUND

Mounts = Sequence[tuple[Path, str]]
Pipes = tuple[BinaryIO, BinaryIO]  # a command's input and output

PIPES = ("/mnt/out", "/mnt/in")

_FIXED_HASHES = {"PYTHONHASHSEED": "0"}
_POLL_SECONDS = 0.01
_UNKNOWN = b"container not known"
_PROBE = "/buildkit-probe"
_PROBES = 10
_NO_REASON = re.compile(rb"(?:subprocess exited with status \d+\s+|Error: exit status \d+\s*)*")
_SHELLS = ("sh", "bash", "dash")
# no line of its own: lines keep their numbers; an image may have no `sleep`
_LINGER = "trap 'code=$?; [ $code = 0 ] || sleep 1 2>&- || :; exit $code' EXIT; "
_MISSED = re.compile(rb"(?:exec: \\?.|executable file .|fork/exec )" + _PROBE.encode())  # runc's, crun's, buildah's


class ContainerLease(Protocol):
    """A record of a container about to be made, so that another process removes it if this one is killed."""

    @property
    def handle(self) -> int:
        """A file descriptor; the lease lasts while any process has it open."""

    def release(self) -> None:
        """End the lease: the container is gone."""


LeaseContainer = Callable[[str], AbstractContextManager[ContainerLease | None]]
"""Records the name of a container; `without_lease` does not."""


def without_lease(_name: str) -> AbstractContextManager[None]:
    """Record nothing."""
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingContainer:
    """A working container: its name, and how its lease is taken."""

    name: str
    lease: LeaseContainer = without_lease


@contextmanager
def working_container(image: str, lease: LeaseContainer = without_lease) -> Iterator[WorkingContainer]:
    """Make a container of an image in local storage (``scratch`` for none), and remove it at the end in any case.

    Raises ToolError. Nothing is ever pulled.
    """
    # an explicit name: buildah would give two builds that start containers of one image at once the same name
    container = WorkingContainer(name=f"buildkit-{os.getpid()}-{secrets.token_hex(6)}", lease=lease)
    argv = ("buildah", "from", "--pull=never", "--quiet", *own_limits(), "--name", container.name, "--", image)
    with lease(container.name) as held_lease:
        try:
            # buildah may make the container after this process is killed
            inherits = (held_lease.handle,) if held_lease else ()
            with _explain_full_storage():
                run(Command(argv=argv, what=f"starting a container of {image}", inherits=inherits))
            yield container
        finally:
            removed = run(Command(argv=("buildah", "rm", "--", container.name), accept=(0, 1, 125), is_cleanup=True))
            if held_lease and (removed.code == 0 or _UNKNOWN in removed.stderr):
                held_lease.release()


def remove_containers(names: Sequence[str]) -> frozenset[str]:
    """Remove working containers, even running ones; return those of ``names`` that are gone. Raises ToolError."""
    run(Command(argv=("buildah", "rm", "--", *names), accept=(0, 1, 125), is_cleanup=True))
    listed = run(Command(argv=("buildah", "containers", "--format", "{{.ContainerName}}"), what="listing containers"))
    return frozenset(names).difference(listed.text.split())


@contextmanager
def mounted_secrets_folder(container: WorkingContainer) -> Iterator[None]:
    """Allow a mount at ``/run/secrets`` of a container, and remove the folder afterwards if it did not exist.

    The runtime makes the folder, and it would be committed. Raises ToolError for a root without a folder ``/run``.
    """
    looked = run(
        Command(argv=_secrets_folder_argv(container, "look"), accept=(0, FOUND), what=f"looking into {container.name}")
    )
    yield
    if looked.code != FOUND:
        run(Command(argv=_secrets_folder_argv(container, "tidy"), what=f"tidying {container.name}"))


def _secrets_folder_argv(container: WorkingContainer, action: str) -> tuple[str, ...]:
    argv = (sys.executable, "-I", "-c", worker_text("secrets_folder_worker"), container.name, action)
    return in_user_namespace(argv)


def run_in(
    container: WorkingContainer, argv: Sequence[str], *, env: Mapping[str, str], network: bool, mounts: Mounts = ()
) -> CommandResult:
    """Run a command to its end; ``mounts`` (host path, path in the container) are read-only bind mounts.

    With ``network`` it uses the host's. A mount's target must exist in the image, or it appears in the layer.
    Its output is for messages: in ``chroot`` isolation buildah ends without waiting for its relay, and the last 64 KiB
    or more may be missing; of a shell's script that fails they are there. What must be whole comes by `open_stream`.
    Raises ToolError with the command's output, MissingTool or Interrupted.
    """
    what = f"`{_short(argv)}` in {container.name}"
    if find_isolation(container.lease).kind == "chroot":
        argv = _linger(argv)
    with _explain_full_storage():
        return run(Command(argv=_run_argv(container, argv, env, network, mounts), what=what))


def _linger(argv: Sequence[str]) -> Sequence[str]:
    """Return a shell's command that ends a second later if it fails, so that buildah relays why; others as they are."""
    if argv[-2:-1] == ("-c",) and argv[0].rpartition("/")[2] in _SHELLS:
        return (*argv[:-1], _LINGER + argv[-1])
    return argv


@contextmanager
def _explain_full_storage() -> Iterator[None]:
    """Report a failure caused by a full disk of local storage; buildah does not always say so (1.28 panics)."""
    try:
        yield
    except ToolError as error:
        command = Command(argv=("buildah", "info", "--format", "{{.store.GraphRoot}}"), accept=tuple(range(256)))
        if error.hint or not is_disk_full(place := run(command).text):
            raise
        hint = f"free some room at {place}; nox -s cache -- gc removes what is not needed"
        raise ToolError(f"{error.message}: the disk is full", hint=hint, output=error.output) from error


@contextmanager
def open_stream(
    container: WorkingContainer,
    argv: Sequence[str],
    folder: Path,
    *,
    env: Mapping[str, str] = _FIXED_HASHES,
    mounts: Mounts = (),
) -> Iterator[Pipes]:
    """Start a command without network and give its input and output; it has ended when the block is left.

    Both are named pipes in ``folder``, which is mounted at ``/mnt``: the command must open the first of `PIPES` for
    writing and then the second for reading. (Standard input and output pass through buildah, which sleeps for 100 ms
    whenever a pipe is full, and loses the end: see `run_in`.) ``mounts`` as there. On leaving, its input ends. Raises
    ToolError with its error output if it fails, even before it opens the pipes, and kills it if the block raised.
    """
    for name in ("in", "out"):
        os.mkfifo(folder / name, 0o600)
    command = Command(
        argv=_run_argv(container, argv, env, network=False, mounts=((folder, "/mnt"), *mounts)),
        what=f"`{_short(argv)}` in {container.name}",
    )
    # non-blocking: there is no writer until the command has opened this pipe and waits at the other one
    with os.fdopen(os.open(folder / "out", os.O_RDONLY | os.O_NONBLOCK), "rb") as output:
        with converse(command) as (_, stdout):
            handle = _await_reader(folder / "in", stdout)
            if handle is not None:
                os.set_blocking(output.fileno(), True)
                with os.fdopen(handle, "wb") as requests:
                    yield requests, output
                    with suppress(BrokenPipeError):  # it ended before it read everything: its exit code says more
                        requests.close()
                while output.read(1 << 20):
                    pass
        if handle is None:
            raise ToolError(f"{command.what}: ended before it opened its pipes")


def _await_reader(path: Path, stdout: BinaryIO) -> int | None:
    """Return the writing end of a named pipe once it has a reader; None if ``stdout`` ends before."""
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        else:
            os.set_blocking(handle, True)
            return handle
        if select.select([stdout], [], [], _POLL_SECONDS)[0] and not os.read(stdout.fileno(), 1 << 16):
            return None


def commit(container: WorkingContainer, ref: str, folder: Path) -> str:
    """Commit the changes of a container as ``ref``, with all times fixed; return ``ref``. Raises ToolError.

    The layer is first written to ``folder``: in /var/tmp it would stay if buildah is killed.
    """
    argv = (
        "buildah", "commit",
        "--timestamp", "0",  # the same bytes whenever it runs
        "--identity-label=false",  # buildah's version must not reach the image
        "--quiet",
        "--", container.name, ref,
    )  # fmt: skip
    with _explain_full_storage():
        run(Command(argv=argv, env={"TMPDIR": str(folder)}, what=f"committing {ref}", writes=(folder,)))
    return ref


def remove_image(ref: str) -> None:
    """Remove an image from local storage, unless it is missing or in use."""
    run(Command(argv=("buildah", "rmi", "--", ref), accept=(0, 1, 2, 125), is_cleanup=True))


@cache
def find_isolation(lease: LeaseContainer = without_lease) -> Isolation:
    """Return BUILDAH_ISOLATION, else ``oci`` if a runtime works here, else ``chroot``; probed once."""
    chosen = os.environ.get("BUILDAH_ISOLATION", "")
    if chosen and chosen != "chroot":
        return Isolation(kind=chosen, why="BUILDAH_ISOLATION is set")
    has_runtime = any(find_tool(runtime) for runtime in ("crun", "runc"))
    if not chosen and has_runtime:
        oci = Isolation(kind="oci", why="a runtime works here")
        if not _find_obstacle(oci, lease):
            return oci
    why = (
        "BUILDAH_ISOLATION is set"
        if chosen
        else "no runtime works here"
        if has_runtime
        else "no crun and no runc in PATH"
    )
    chroot = Isolation(kind="chroot", why=why)
    obstacle = _find_obstacle(chroot, lease)
    return replace(chroot, shared=f"no namespaces can be made: {obstacle}") if obstacle else chroot


def _find_obstacle(isolation: Isolation, lease: LeaseContainer) -> str:
    """Return why no command runs in a container with this isolation; empty if one does."""
    try:
        with working_container("scratch", lease) as container:
            # What works gets as far as missing this program, and names it. Anything else (no cgroups, no permission)
            # fails before that, with another message.
            argv = _isolated_argv(isolation, container, (_PROBE,), {}, network=False, mounts=())
            for _ in range(_PROBES):
                finished = run(Command(argv=argv, accept=tuple(range(256))))
                if _MISSED.search(finished.stderr):
                    return ""
                if not _NO_REASON.fullmatch(finished.stderr):  # the relay may lose the reason: see `run_in`
                    break
    except ToolError as error:
        return error.message
    lines = finished.stderr.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {finished.code}")


def _run_argv(
    container: WorkingContainer, argv: Sequence[str], env: Mapping[str, str], network: bool, mounts: Mounts
) -> tuple[str, ...]:
    isolation = find_isolation(container.lease)
    return _isolated_argv(isolation, container, argv, env, network=network, mounts=mounts)


def _isolated_argv(
    isolation: Isolation,
    container: WorkingContainer,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    network: bool,
    mounts: Mounts,
) -> tuple[str, ...]:
    return (
        *isolation.prefix((source for source, _ in mounts), network=network),
        "buildah", "run",
        *isolation.options(network=network),
        *(part for name, value in sorted(env.items()) for part in ("--env", f"{name}={value}")),
        *(part for source, target in mounts for part in ("--volume", f"{source}:{target}:ro")),
        "--", container.name, *argv,
    )  # fmt: skip


def own_limits() -> tuple[str, ...]:
    """Return this process's limits as options: buildah requests higher ones, which not every host grants.

    Older versions first lower the number of processes to the kernel's highest process id, and cannot raise it again.
    """
    files, processes = (resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
    highest = int(Path("/proc/sys/kernel/pid_max").read_text("ascii"))
    processes = min(processes[0], highest), min(processes[1], highest)
    bounded = {"nofile": files} if resource.RLIM_INFINITY in processes else {"nofile": files, "nproc": processes}
    return tuple(part for name, (soft, hard) in bounded.items() for part in ("--ulimit", f"{name}={soft}:{hard}"))


def _short(argv: Sequence[str]) -> str:
    return " ".join(argv)[:80].replace("\n", " ")
