"""mmdebstrap: from exact package versions to the tar of a Debian root."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from buildkit.errors import BuildError, FetchError, ToolError, VersionsGoneError
from buildkit.locks.pins import AptPin
from buildkit.shell import load_script
from buildkit.tools.process import Command, require_tool, run, stream

_GONE = re.compile(r"^E: (?:Version '(?P<version>[^']*)' for '(?P<name>[^']*)' was not found"
                   r"|Unable to locate package (?P<unknown>\S+))", re.MULTILINE)  # fmt: skip
_UNREACHED = re.compile(
    r"^E: Failed to fetch .*|Temporary failure resolving|Could not (?:connect|resolve)|Connection timed out",
    re.MULTILINE,
)
_UNSIGNED = re.compile(r"NO_PUBKEY|is not signed|couldn't be verified|Missing key")
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
    name (``amd64``). ``mirrors`` are URLs or lines of sources.list; the default is mmdebstrap's for the suite, with
    updates and security. ``bytecode`` compiles Python's standard library.
    """

    suite: str
    arch: str
    pins: tuple[AptPin, ...]
    variant: str = "custom"
    components: tuple[str, ...] = ("main",)
    mirrors: tuple[str, ...] = ()
    bytecode: bool = True


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
    it is unreachable; ToolError otherwise. Errors come after the last chunk: only a tar read to its end is complete.
    """
    env = {"SOURCE_DATE_EPOCH": "0", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "TZ": "UTC"}
    command = Command(
        argv=(*_guards(), *render_argv(spec, uid=os.geteuid())),
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


def render_argv(spec: RootSpec, *, uid: int) -> tuple[str, ...]:
    """Return the command line for a user with this id."""
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
        *((f"--{last}-hook={load_script('compile_library')}",) if spec.bytecode else ()),
        "--format=tar",
        "--",
        spec.suite,
        "-",
        *spec.mirrors,
    )  # fmt: skip


def find_gone(output: str, suite: str = "") -> VersionsGoneError | None:
    """Return the error for versions that the archive no longer has, if that is what apt's output says."""
    missing = [
        f"{match['name']}={match['version']}" if match["name"] else match["unknown"] for match in _GONE.finditer(output)
    ]
    if not missing:
        return None
    where = f" in {suite}" if suite else ""
    hint = "nox -s lock -- --upgrade-apt takes the current versions"
    return VersionsGoneError(f"the archive no longer has {', '.join(missing)}{where}", hint=hint, output=output)


def _explain(error: ToolError, spec: RootSpec) -> BuildError:
    if gone := find_gone(error.output, spec.suite):
        return gone
    if _UNREACHED.search(error.output):
        return FetchError(
            f"the Debian archive could not be reached for {spec.suite}",
            hint="check the network and the proxy settings, then run the same command again",
            output=error.output,
        )
    return ToolError(error.message, hint=_find_hint(error.output), output=error.output)


def _find_hint(output: str) -> str:
    if _UNSIGNED.search(output):
        return "install Debian's keys: sudo apt-get install debian-archive-keyring"
    if _UNMAPPED.search(output):
        return "an ordinary user needs a range in /etc/subuid and /etc/subgid: nox -s doctor explains how"
    if "unmet dependencies" in output:
        return "the locked versions no longer fit together: nox -s lock -- --upgrade-apt"
    return ""
