"""mmdebstrap: from exact package versions to the tar of a Debian root."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from dataclasses import dataclass

from buildkit.errors import BuildError, FetchError, ToolError, VersionsGoneError
from buildkit.locks.pins import AptPin
from buildkit.shell import load_script
from buildkit.tools.process import Command, stream

_GONE = re.compile(r"^E: (?:Version '(?P<version>[^']*)' for '(?P<name>[^']*)' was not found"
                   r"|Unable to locate package (?P<unknown>\S+))", re.MULTILINE)  # fmt: skip
_UNREACHED = re.compile(
    r"^E: Failed to fetch .*|Temporary failure resolving|Could not (?:connect|resolve)|Connection timed out",
    re.MULTILINE,
)
_UNSIGNED = re.compile(r"NO_PUBKEY|is not signed|couldn't be verified|Missing key")
_UNMAPPED = re.compile(r"newuidmap|newgidmap|/etc/subuid|/etc/subgid|unprivileged_userns|unshare\(", re.IGNORECASE)


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


def stream_root(spec: RootSpec) -> Generator[bytes, None, None]:
    """Yield the root as an uncompressed tar, in chunks, while it is made; closing the generator ends mmdebstrap.

    Works as root and, with user namespaces, for an ordinary user with a range in /etc/subuid. Raises MissingTool;
    VersionsGoneError if the archive no longer has pinned versions (naming every one); FetchError if it is unreachable;
    ToolError otherwise. Errors come after the last chunk: only a tar read to its end is complete.
    """
    command = Command(
        argv=render_argv(spec, uid=os.geteuid()),
        env={"SOURCE_DATE_EPOCH": "0", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "TZ": "UTC"},
        what="mmdebstrap",
    )
    try:
        yield from stream(command)
    except ToolError as error:
        raise _explain(error, spec) from error


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
