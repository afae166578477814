"""mmdebstrap: from exact package versions to the tar of a Debian root."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from buildkit.declare.apt_sources import FILE_NAME
from buildkit.errors import BuildError, ToolError
from buildkit.locks.pins import AptPin
from buildkit.shell import load_script
from buildkit.tools.apt_output import find_failure, find_gone
from buildkit.tools.process import Command, require_tool, run, stream

_UNMAPPED = re.compile(r"newuidmap|newgidmap|/etc/subuid|/etc/subgid|unprivileged_userns|unshare\(", re.IGNORECASE)
_PHASE = re.compile(
    rb"I: (?P<phase>running apt-get update|downloading packages|extracting archives|installing (?:essential|remaining)"
    rb" packages|running --\w+-hook|cleaning package lists|creating tarball)"
)
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
# mmdebstrap looks at milder signals only between its phases
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


@dataclass(frozen=True, slots=True, kw_only=True)
class RootSpec:
    """A root: every package at its exact version, including essential ones and dependencies.

    The ``variant`` ``extract`` unpacks without running package scripts; every other one installs. ``arch`` is Debian's
    name (``amd64``). ``sources`` is the text of ``archives.sources`` (`declare.apt_sources`); the default is what
    mmdebstrap knows of the suite, with updates and security. ``bytecode`` compiles Python's standard library: by the
    root's own Python or, where this machine cannot run it, by the same Python in the folder ``python``.
    """

    suite: str
    arch: str
    pins: tuple[AptPin, ...]
    variant: str = "custom"
    components: tuple[str, ...] = ("main",)
    sources: str = ""
    bytecode: bool = True
    python: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where mmdebstrap works: in ``folder``, with the descriptors ``inherits`` open; ``say`` gets its phases."""

    folder: Path
    inherits: tuple[int, ...] = ()
    say: Callable[[str], None] = lambda _phase: None


def stream_root(spec: RootSpec, place: Workplace) -> Generator[bytes, None, None]:
    """Yield the root as an uncompressed tar, in chunks, while it is made; closing the generator ends mmdebstrap.

    If this process is killed, so is root's mmdebstrap; an ordinary user's ends when it wants to write its tar. Its
    mounts vanish with it. Works as root and, with user namespaces, for an ordinary user with a range in /etc/subuid.
    Raises MissingTool; VersionsGoneError if the archive no longer has pinned versions (naming every one); FetchError if
    one is unreachable or has expired; MismatchError if its key is another; ToolError otherwise. Errors come after the
    last chunk: only a tar read to its end is complete.
    """
    env = {"SOURCE_DATE_EPOCH": "0", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "TZ": "UTC"}
    command = Command(
        argv=(*_guards(), *render_argv(spec, uid=os.geteuid(), sources=write_sources(spec.sources, place.folder))),
        env=env | {"TMPDIR": str(place.folder)},
        inherits=place.inherits,
        what="mmdebstrap",
        writes=(place.folder,),
    )

    def watch(line: bytes) -> None:
        if found := _PHASE.match(line):
            place.say(found["phase"].decode())

    require_tool("mmdebstrap")
    try:
        yield from stream(command, watch)
    except ToolError as error:
        raise _explain(error, spec) from error


@cache
def _guards() -> tuple[str, ...]:
    """Return the command that starts mmdebstrap in its namespaces, if that is allowed: root of a container may lack it.

    As an ordinary user it makes namespaces itself.
    """
    if os.geteuid() != 0:
        return ()
    guards = (*_ENDS_WITH_US, *_NAMESPACES)
    return guards if run(Command(argv=(*guards, "true"), accept=tuple(range(256)))).code == 0 else ()


def write_sources(text: str, folder: Path) -> tuple[Path, ...]:
    """Write ``archives.sources`` into ``folder`` for mmdebstrap; return its path, none for an empty text."""
    if not text:
        return ()
    path = folder / FILE_NAME  # the root gets it by this name
    path.write_text(text, "utf-8")
    return (path,)


def render_argv(spec: RootSpec, *, uid: int, sources: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """Return the command line for a user with this id; ``sources`` are files that name archives."""
    extract = spec.variant == "extract"
    last = "extract" if extract else "customize"  # hook of each variant; extract runs no others
    pins = ",".join(f"{pin.name}={pin.version}" for pin in sorted(spec.pins, key=lambda pin: pin.name))
    return (
        "mmdebstrap",
        f"--mode={'root' if uid == 0 else 'unshare'}",
        # with every package pinned, `custom` equals every other variant; those would first install the newest
        # essential packages, and then fail on an older pin
        f"--variant={'extract' if extract else 'custom'}",
        f"--architectures={spec.arch}",
        f"--components={','.join(spec.components)}",
        f"--include={pins}",
        *((f"--extract-hook={load_script('record_packages')}",) if extract else ()),
        *((f"--{last}-hook={_compile_library(spec.python)}",) if spec.bytecode else ()),
        "--format=tar",
        "--",
        spec.suite,
        "-",
        *map(str, sources),
    )  # fmt: skip


def _compile_library(python: Path | None) -> str:
    if python is None:
        return load_script("compile_library")
    return f"python={shlex.quote(str(python))}\n{load_script('compile_foreign_library')}"


def _explain(error: ToolError, spec: RootSpec) -> BuildError:
    known = find_gone(error.output, spec.suite) or find_failure(error.output, spec.suite)
    return known or ToolError(error.message, hint=_find_hint(error.output), output=error.output)


def _find_hint(output: str) -> str:
    if _UNMAPPED.search(output):
        return "an ordinary user needs a range in /etc/subuid and /etc/subgid: nox -s doctor explains how"
    if "unmet dependencies" in output:
        return "the locked versions no longer fit together: nox -s lock -- --upgrade-apt"
    return ""
