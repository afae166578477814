"""Resolve Debian packages: what ``mmdebstrap --simulate`` would install, with exact versions.

The same program with the same suite and variant later makes the root, so lock and root agree on the packages of a
variant and on the mirrors. Nothing is installed, and only package lists are downloaded.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import BuildError, DefinitionError, Problem, ToolError
from buildkit.locks.apt_lock import sort_apt_pins
from buildkit.locks.pins import AptPin
from buildkit.tools.process import Command, run

VARIANTS = ("extract", "custom", "essential", "apt", "required", "minbase", "buildd", "important", "standard")

# apt-get --simulate: Inst NAME [installed version] (VERSION ORIGIN [ARCHITECTURE])
_INST = re.compile(r"^Inst (\S+?)(?::\S+)? (?:\[\S+\] )?\((\S+) ", re.MULTILINE)
_MISSING = re.compile(r"E: (?:Unable to locate package (\S+)|Package '([^']+)' has no installation candidate)")
_GONE = re.compile(r"E: Version '([^']+)' for '([^']+)' was not found")


@dataclass(frozen=True, slots=True, kw_only=True)
class AptResolveRequest:
    """A request to resolve ``packages`` on top of a ``variant`` of ``suite``.

    ``kept`` are exact versions that must not change (the lock of the root underneath); ``preferred`` are kept if
    the mirrors still have them. ``mirrors`` are sources.list lines; empty means mmdebstrap's default for the suite.
    """

    packages: tuple[str, ...]
    suite: str
    variant: str
    arch: str
    components: tuple[str, ...] = ("main",)
    mirrors: tuple[str, ...] = ()
    kept: tuple[AptPin, ...] = ()
    preferred: tuple[AptPin, ...] = ()
    file: str = ""


def resolve_apt(request: AptResolveRequest) -> tuple[AptPin, ...]:
    """Return every package that the root would have, sorted.

    Raises DefinitionError for packages that do not exist, BuildError if a kept version is gone, else ToolError.
    """
    with tempfile.TemporaryDirectory(prefix="buildkit-apt-") as folder:
        preferences = Path(folder) / "preferences"
        preferences.mkdir()
        (preferences / "lock.pref").write_text(render_preferences(request.preferred), "utf-8")
        for path in (Path(folder), preferences):
            path.chmod(0o755)  # apt reads it as another user
        try:
            result = run(Command(argv=_argv(request, preferences), what=f"resolving {request.file or 'packages'}"))
        except ToolError as error:
            raise _explain(error, request) from None
    return parse_simulation((result.stdout + result.stderr).decode("utf-8", "replace"))


def parse_simulation(output: str) -> tuple[AptPin, ...]:
    """Parse the packages that apt's simulation would install, sorted by name, each once."""
    pins = {name: AptPin(name=name, version=version) for name, version in _INST.findall(output)}
    return sort_apt_pins(tuple(pins.values()))


def render_preferences(pins: Sequence[AptPin]) -> str:
    """Render apt_preferences(5) that prefer exactly these versions while a mirror has them."""
    return "\n".join(f"Package: {pin.name}\nPin: version {pin.version}\nPin-Priority: 1001\n" for pin in pins)


def _argv(request: AptResolveRequest, preferences: Path) -> tuple[str, ...]:
    kept = {pin.name for pin in request.kept}
    includes = [f"{pin.name}={pin.version}" for pin in request.kept]
    includes += [name for name in request.packages if name not in kept]
    return (
        "mmdebstrap",
        "--simulate", "--verbose",                                  # apt's own list of what it would do
        "--variant", request.variant,
        "--architectures", request.arch,
        "--components", ",".join(request.components),
        *(("--include", ",".join(includes)) if includes else ()),
        "--aptopt", f'Dir::Etc::PreferencesParts "{preferences}"',
        "--format", "null",
        "--skip", "check/qemu",                                     # nothing is run
        request.suite, "/dev/null", *request.mirrors,
    )  # fmt: skip


def _explain(error: ToolError, request: AptResolveRequest) -> Exception:
    problems = [
        Problem(file=request.file, key=name, what=f"{request.suite} has no such package")
        for name in sorted({first or second for first, second in _MISSING.findall(error.output)})
    ]
    if problems:
        return DefinitionError.of(problems)
    if missing := _GONE.findall(error.output):
        lines = ", ".join(f"{name}={version}" for version, name in missing)
        hint = "mirrors keep only the newest versions; run: nox -s lock -- --upgrade-apt"
        return BuildError(f"{request.suite} no longer has {lines}", hint=hint)
    return error
