"""py-spy: samples the stacks of a Python process from outside, and leaves the process as it was.

It reads the memory of the process (``process_vm_readv``), which the kernel allows to root, and to the user whose user
namespace the container runs in.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import BuildError, MissingTool, ToolError
from buildkit.tools import podman
from buildkit.tools.process import Command, find_tool, run

_REFUSED = ("Permission denied", "Operation not permitted", "EPERM", "os error 1)", "os error 13)")
_GONE = (
    "No python processes found",
    "Check that the process is running",
    "No such process",
    "os error 3)",
    "process exited",
    "process has exited",
)
_MARGIN = 10.0  # seconds to end after SIGTERM


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which process, how often a second and for how many seconds."""

    pid: int
    rate: int
    seconds: int


def require_py_spy() -> str:
    """Return the path of py-spy, that beside this Python first. Raises MissingTool with what installs it."""
    beside = Path(sys.executable).with_name("py-spy")
    path = str(beside) if beside.exists() else find_tool("py-spy")
    if path is None:
        hint = "python -m pip install 'xoe-buildkit[profile]'; or leave it out: --only frameworks --only memory"
        raise MissingTool("py-spy is not installed", hint=hint)
    return path


def record_samples(sampling: Sampling, output: Path) -> None:
    """Sample a process and those that it starts, and write a trace in speedscope's format.

    Raises BuildError where the kernel refuses, and ToolError.
    """
    argv = (
        require_py_spy(), "record", "--subprocesses", "--format", "speedscope", "--rate", str(sampling.rate),
        "--duration", str(sampling.seconds), "--output", str(output), "--pid", str(sampling.pid),
    )  # fmt: skip
    try:
        run(
            Command(
                argv=argv,
                env={"RUST_BACKTRACE": "0"},
                what="sampling the service with py-spy",
                grace=_MARGIN,
                writes=(output.parent,),
            )
        )
    except ToolError as error:
        raise explain_failure(error) from None
    if not output.exists():
        raise BuildError("py-spy wrote no trace: the service ended, or was never seen at work")


def explain_failure(error: ToolError) -> BuildError:
    """Return the error that says what to do about a failure of py-spy."""
    said = f"{error.message}\n{error.output}"
    if any(word in said for word in _GONE):
        return BuildError("the service ended while it was profiled", output=error.output)
    if any(word in said for word in _REFUSED):
        return BuildError(
            "the kernel does not let py-spy read the service's memory",
            hint="run this as root, or: sudo sysctl kernel.yama.ptrace_scope=0 (inside a container: SYS_PTRACE); "
            "--only frameworks --only memory needs no such right",
            output=error.output,
        )
    return error


def find_python(name: str) -> int | None:
    """Return the host's id of the first process of a container that is a Python; None without one."""
    rootless = os.geteuid() != 0
    for pid in sorted(podman.list_pids(name)):
        program = podman.read_link(f"/proc/{pid}/exe", rootless=rootless).rpartition("/")[2]
        if program.startswith(("python", "pypy")):
            return pid
    return None
