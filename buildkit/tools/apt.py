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

from buildkit.declare.schema import suggest_word
from buildkit.errors import BuildError, DefinitionError, Problem, ToolError
from buildkit.locks.apt_lock import sort_apt_pins
from buildkit.locks.pins import AptPin
from buildkit.tools.apt_output import find_failure
from buildkit.tools.mmdebstrap import write_sources
from buildkit.tools.process import Command, run

VARIANTS = ("extract", "custom", "essential", "apt", "required", "minbase", "buildd", "important", "standard")

# apt-get --simulate: Inst NAME [installed version] (VERSION ORIGIN [ARCHITECTURE])
_INST = re.compile(r"^Inst (\S+?)(?::\S+)? (?:\[\S+\] )?\((\S+) ", re.MULTILINE)
_MISSING = re.compile(r"E: (?:Unable to locate package (\S+)|Package '([^']+)' has no installation candidate)")
_GONE = re.compile(r"E: Version '([^']+)' for '([^']+)' was not found")
_SUCCESSORS = {
    "libegl1-mesa": "libegl1",
    "libffi6": "libffi8",
    "libffi7": "libffi8",
    "libgl1-mesa-glx": "libgl1",
    "libgles2-mesa": "libgles2",
    "libncurses5": "libncurses6",
    "libtinfo5": "libtinfo6",
    "netcat": "netcat-openbsd",
    "python3-distutils": "python3-setuptools",
}
"""Names in Containerfiles for older releases of Debian, and what took their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AptResolveRequest:
    """A request to resolve ``packages`` on top of a ``variant`` of ``suite``.

    A package may be ``name=version``, a constraint.

    ``kept`` are exact versions that must not change (the lock of the root underneath); ``preferred`` are kept if
    the archives still have them. ``sources`` names archives as of `mmdebstrap.RootSpec`.
    """

    packages: tuple[str, ...]
    suite: str
    variant: str
    arch: str
    components: tuple[str, ...] = ("main",)
    sources: str = ""
    kept: tuple[AptPin, ...] = ()
    preferred: tuple[AptPin, ...] = ()
    file: str = ""


def resolve_apt(request: AptResolveRequest) -> tuple[AptPin, ...]:
    """Return every package that the root would have, sorted.

    Raises DefinitionError for packages that do not exist, BuildError if a kept version is gone, else ToolError.
    """
    check_asked(request)
    with tempfile.TemporaryDirectory(prefix="buildkit-apt-") as folder:
        preferences = Path(folder) / "preferences"
        preferences.mkdir()
        (preferences / "lock.pref").write_text(render_preferences(request.preferred), "utf-8")
        for path in (Path(folder), preferences):
            path.chmod(0o755)  # apt reads it as another user
        sources = write_sources(request.sources, Path(folder))
        try:
            result = run(
                Command(argv=_argv(request, preferences, sources), what=f"resolving {request.file or 'packages'}")
            )
        except ToolError as error:
            raise explain_apt(error, request) from None
    return parse_simulation((result.stdout + result.stderr).decode("utf-8", "replace"))


def check_asked(request: AptResolveRequest) -> None:
    """Raise DefinitionError for a version of the list that the lock of the root below does not have."""
    kept = {pin.name: pin.version for pin in request.kept}
    pairs = (package.partition("=")[::2] for package in request.packages)
    problems = [
        Problem(file=request.file, key=name, what=f"asks for {version}, and the root below has {kept[name]}")
        for name, version in pairs
        if version and kept.get(name, version) != version
    ]
    if problems:
        raise DefinitionError.of(problems)


def parse_simulation(output: str) -> tuple[AptPin, ...]:
    """Parse the packages that apt's simulation would install, sorted by name, each once."""
    pins = {name: AptPin(name=name, version=version) for name, version in _INST.findall(output)}
    return sort_apt_pins(tuple(pins.values()))


def render_preferences(pins: Sequence[AptPin]) -> str:
    """Render apt_preferences(5) that prefer exactly these versions while a mirror has them."""
    return "\n".join(f"Package: {pin.name}\nPin: version {pin.version}\nPin-Priority: 1001\n" for pin in pins)


def _argv(request: AptResolveRequest, preferences: Path, sources: tuple[Path, ...]) -> tuple[str, ...]:
    kept = {pin.name for pin in request.kept}
    includes = [f"{pin.name}={pin.version}" for pin in request.kept]
    includes += [package for package in request.packages if package.partition("=")[0] not in kept]
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
        request.suite, "/dev/null", *map(str, sources),
    )  # fmt: skip


def _missing(name: str, output: str, request: AptResolveRequest) -> Problem:
    """Return the problem of a package that cannot be installed: a virtual one, an older name, or a mistake."""
    start = rf"^Package {re.escape(name)} is a virtual package provided by:\n"
    virtual = re.search(rf"{start}((?: +\S.*\n)+)", output, re.MULTILINE)
    if virtual:
        providers = sorted({line.split()[0] for line in virtual[1].splitlines()})
        what = f"is a virtual package of {request.suite}, which {len(providers)} packages provide"
        return Problem(file=request.file, key=name, what=what, hint=f"name one: {', '.join(providers)}")
    if name in _SUCCESSORS:
        hint = f"it is a name of older releases; write {_SUCCESSORS[name]}"
    else:
        known = [*(pin.name for pin in (*request.kept, *request.preferred)), *_SUCCESSORS.values()]
        hint = suggest_word(name, sorted({*known}))
    return Problem(file=request.file, key=name, what=f"{request.suite} has no such package", hint=hint)


def explain_apt(error: ToolError, request: AptResolveRequest) -> Exception:
    """Return the error for what apt said: DefinitionError where the list is wrong, else a BuildError."""
    asked = {tuple(package.split("=", 1)) for package in request.packages if "=" in package}
    names = sorted({first or second for first, second in _MISSING.findall(error.output)})
    problems = [_missing(name, error.output, request) for name in names]
    problems += [
        Problem(
            file=request.file,
            key=name,
            what=f"{request.suite} has no version {version} of it",
            hint=f"write {name} alone: the lock names the exact version",
        )
        for version, name in _GONE.findall(error.output)
        if (name, version) in asked
    ]
    if problems:
        return DefinitionError.of(problems)
    if missing := _GONE.findall(error.output):
        lines = ", ".join(f"{name}={version}" for version, name in missing)
        hint = "mirrors keep only the newest versions; run: nox -s lock -- --upgrade-apt"
        return BuildError(f"{request.suite} no longer has {lines}", hint=hint)
    return find_failure(error.output, request.suite) or error
