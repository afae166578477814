"""Resolve requirements to locks with ``uv pip compile`` or pip-tools, behind one function.

Neither may write an index, a host or a path of this machine into a lock; packages of the repository stay
``./libs/x``. uv resolves for all platforms at once (with markers); pip-compile only for the Python that it runs on,
which therefore must be the target's.

Both compute the metadata of sdists and local packages by their build backends, where it is not written down. That is
code of others, and it would run with the caller's environment, files and network. So both get an interpreter that runs
none (`PythonTrap`), unless ``host_builds`` allows it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from buildkit.declare.toml import find_table, parse_toml, render_toml
from buildkit.errors import DefinitionError, MissingTool, ToolError
from buildkit.tools.installed_wheels import drop_installed, write_installed
from buildkit.tools.installer_files import load_uv_table
from buildkit.tools.process import Command, find_tool, run
from buildkit.tools.python_trap import HostBuildError, PythonTrap


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectMetadata:
    """The metadata of a package that a resolver needs (https://packaging.python.org/specifications/core-metadata/)."""

    name: str
    version: str
    requires_dist: tuple[str, ...] = ()
    requires_python: str = ""
    provides_extra: tuple[str, ...] = ()


Describe = Callable[[Path], ProjectMetadata]
"""Return the metadata of the package whose source is in a folder, computed by its build backend in a container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveRequest:
    """A request to resolve ``inputs``, relative to ``root``, for Python ``python`` (``3.13.5``), by ``locker``.

    ``preferred`` is the text of an earlier lock whose versions are kept if they still fit; ``constraints`` are
    requirements that every pin must meet; ``env`` is added to the environment.
    ``sourced`` are requirements of the inputs whose projects ``[tool.uv.sources]`` of the checkout gives an index.
    ``texts`` are those of inputs that are no file. With ``prereleases``, they count like other versions.
    With ``host_builds``, build backends may run on this host. ``described`` is metadata that is known without them.
    ``installed`` are names and versions that the images have anyway: all must fit them, and no pin names them.
    ``warn`` is called with each warning of the resolver about the inputs, as one line.
    """

    root: Path
    inputs: tuple[str, ...]
    python: str
    locker: str = "uv"
    preferred: str = ""
    constraints: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    host_builds: bool = False
    described: tuple[ProjectMetadata, ...] = ()
    sourced: tuple[str, ...] = ()
    prereleases: bool = False
    texts: Mapping[str, str] = field(default_factory=dict)
    installed: tuple[tuple[str, str], ...] = ()
    warn: Callable[[str], None] = field(default=lambda _warning: None, compare=False)


_INSTALL = "run: pip install 'xoe-buildkit[pip-tools]'"


def resolve(request: ResolveRequest) -> str:
    """Return the text of the lock. Raises ToolError with the resolver's output, MissingTool or DefinitionError.

    Raises HostBuildError if a build backend would have to run.
    """
    with tempfile.TemporaryDirectory(prefix="buildkit-lock-") as folder:
        trap = None if request.host_builds else PythonTrap(Path(folder)).set_up()
        python = str(trap.program) if trap else ""
        if request.locker == "uv":
            prefix = (*_uv(request, python), *_uv_settings(request, Path(folder)))
        else:
            prefix = _pip_compile(request, python)
        output = Path(folder) / "lock.txt"
        if request.preferred:
            output.write_text(request.preferred, "utf-8")
        constraints, bounds, env = request.constraints, tuple[str, ...](), dict(request.env)
        if request.installed:
            constraints += write_installed(request.installed, Path(folder) / "installed")
            bounds, env = _add_links(request, f"{folder}/installed")
        if constraints:
            limits = Path(folder) / "constraints.txt"
            limits.write_text(constraints, "utf-8")
            bounds = (*bounds, "--constraint", str(limits))
        inputs = _write_inputs(request, Path(folder))
        argv = (*prefix, *bounds, "--output-file", str(output), *inputs, *_sources(request, Path(folder)))
        what = f"locking {', '.join(_shown(request))} with {request.locker}"
        try:
            finished = run(Command(argv=argv, env={**_QUIET, **env}, cwd=request.root, what=what))
        except ToolError as error:
            _check_trap(trap, what, error.output)
            raise
        _check_trap(trap, what)  # a resolver that goes on has passed over a package
        for warning in find_warnings(finished.stderr.decode("utf-8", "replace")):
            request.warn(warning)
        text = drop_installed(output.read_text("utf-8"), {name for name, _ in request.installed})
        for name, shown in zip(request.inputs, _shown(request), strict=True):
            text = text.replace(f"{folder}/inputs/{name}", shown)
        return _general_first(_without_host(text, request.root))


def _add_links(request: ResolveRequest, folder: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the options, and the environment, that add a folder of wheels: uv's option would replace its variable."""
    if request.locker != "uv":
        return ("--find-links", folder), dict(request.env)
    known = request.env.get("UV_FIND_LINKS", os.environ.get("UV_FIND_LINKS", ""))
    return (), {**request.env, "UV_FIND_LINKS": ",".join(filter(None, (known, folder)))}


def _shown(request: ResolveRequest) -> tuple[str, ...]:
    """Return the names of the inputs for people, who find no file of an input that is none."""
    return tuple(name.removesuffix(".in") if name in request.texts else name for name in request.inputs)


def _write_inputs(request: ResolveRequest, folder: Path) -> tuple[str, ...]:
    """Return the inputs as files; paths in them are relative to the working folder, wherever they lie."""
    for name, text in request.texts.items():
        place = folder / "inputs" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")
    return tuple(str(folder / "inputs" / name) if name in request.texts else name for name in request.inputs)


def _check_trap(trap: PythonTrap | None, what: str, output: str = "") -> None:
    """Raise HostBuildError if the trap caught code of a package."""
    tree = trap.find_caught() if trap else None
    if tree is not None:
        raise HostBuildError(f"{what}: code of a package would run", tree=str(tree), output=output)


def find_warnings(output: str) -> list[str]:
    """Return the resolver's warnings about what it resolved; those about the host's Pythons concern no lock."""
    found = (match[1].strip() for match in _WARNING.finditer(output))
    return [text for text in dict.fromkeys(found) if not _OF_HOST.search(text)]


_WARNING = re.compile(r"^ *warning: (.+)$", re.IGNORECASE | re.MULTILINE)
_OF_HOST = re.compile(
    r"Python (?:download|version [\d.]+ is not available)|hardlink|root user|^Location .* is ignored"
    r"|new release of pip|--strip-extras|^Ignoring unsupported option in .*: `--pre`"
)

# settings of the caller's shell must not reach a lock
_QUIET = {
    "UV_CUSTOM_COMPILE_COMMAND": "nox -s lock",
    "CUSTOM_COMPILE_COMMAND": "nox -s lock",
    "NO_COLOR": "1",
    "VIRTUAL_ENV": "",
}


def _uv(request: ResolveRequest, python: str) -> tuple[str, ...]:
    return (
        *uv_program(),
        "pip", "compile",
        "--universal",                           # one lock for every platform: markers decide
        "--python-version", request.python,      # the target's, never the host's
        "--no-python-downloads",                 # its number is enough to resolve for it
        *(("--python", python) if python else ()),  # before any that settings or a folder .venv name
        *(("--prerelease", "allow") if request.prereleases else ()),
        *(("--no-index",) if request.env.get("UV_NO_INDEX") else ()),  # uv itself reads no such variable
        "--generate-hashes",
        "--no-header",
        "--emit-build-options",                  # --no-binary, --only-binary: they choose the files, too
        "--no-progress",                         # not --quiet, which hides warnings
    )  # fmt: skip


def _uv_settings(request: ResolveRequest, folder: Path) -> tuple[str, ...]:
    """Return the options that make uv read the metadata in ``described``, besides the settings that it reads anyway."""
    if not request.described:
        return ()
    env = {**os.environ, **request.env}
    table = dict(load_uv_table(request.root, env))
    known = [
        {
            "name": item.name,
            "version": item.version,
            "requires-dist": list(item.requires_dist),
            "provides-extra": list(item.provides_extra),
            **({"requires-python": item.requires_python} if item.requires_python else {}),
        }
        for item in request.described
    ]
    table["dependency-metadata"] = [*table.get("dependency-metadata", ()), *known]
    (folder / "uv.toml").write_text(render_toml(table), "utf-8")
    replaces = env.get("UV_CONFIG_FILE") or env.get("UV_NO_CONFIG")
    return ("--config-file", f"{folder}/uv.toml") if replaces else ("--project", str(folder))


def _sources(request: ResolveRequest, folder: Path) -> tuple[str, ...]:
    """Return an input that repeats ``sourced``: of a pyproject.toml, uv gives a project its source, and keeps it."""
    if not request.sourced:
        return ()
    file = "pyproject.toml"
    settings = find_table(parse_toml((request.root / file).read_text("utf-8"), file), "tool", "uv")
    indexes = [
        {**index, "url": url if "://" in url else str(request.root / url)}
        for index in settings.get("index", ())
        if isinstance(url := index.get("url"), str)
    ]
    project = {"name": _SOURCES, "version": "0", "dependencies": list(request.sourced)}
    table = {"project": project, "tool": {"uv": {"sources": settings.get("sources", {}), "index": indexes}}}
    (folder / "sources").mkdir()
    (folder / "sources" / file).write_text(render_toml(table), "utf-8")
    return (str(folder / "sources" / file),)


_SOURCES = "buildkit-sources"
_PIP_TOOLS = """import collections, os, platform, runpy, sys
root, python, release = sys.argv[1:4]
del sys.argv[1:4]
os.chdir(root)
sys.executable = python or sys.executable  # by which pip starts build backends
if release:  # by which pip judges markers and Requires-Python; minor and major are this Python's
    version = collections.namedtuple("version_info", "major minor micro releaselevel serial")
    sys.version_info = version(*map(int, release.split(".")), "final", 0)
    sys.implementation.version = sys.version_info
    platform.python_version = lambda: release
runpy.run_module("piptools", None, "__main__", True)
"""


def _pip_compile(request: ResolveRequest, python: str) -> tuple[str, ...]:
    release = request.python if request.python.count(".") == 2 else ""
    return (
        *_python_with_pip_tools(request.python), "-c", _PIP_TOOLS, str(request.root), python, release, "compile",
        "--generate-hashes",
        "--allow-unsafe",                        # setuptools is a pin like any other
        "--strip-extras",
        "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host",
        "--resolver", "backtracking",
    )  # fmt: skip


def uv_program() -> tuple[str, ...]:
    """Return the command of uv: from this environment, else from PATH. Raises MissingTool."""
    if importlib.util.find_spec("uv") is not None:
        return (sys.executable, "-m", "uv")
    if path := find_tool("uv"):
        return (path,)
    raise MissingTool("uv is not installed", hint="run: pip install uv")


def _python_with_pip_tools(version: str) -> tuple[str, ...]:
    """Return the command of a Python of the target's version with pip-tools: this one, or one that uv provides."""
    version = ".".join(version.split(".")[:2])  # this host hardly has the same release
    here = "{}.{}".format(*sys.version_info[:2])
    if version == here:
        if importlib.util.find_spec("piptools") is None:
            raise MissingTool("pip-tools is not installed", hint=_INSTALL)
        return (sys.executable,)
    try:
        uv = uv_program()
    except MissingTool:
        what = f"pip-tools locks for the Python that it runs on ({here}); the images have {version}"
        raise DefinitionError(what, hint='install uv, or set locker = "uv"') from None
    # in a folder of the repository, uv would run the interpreter of a folder .venv
    where = ("--directory", "/", "--no-project", "--python", version)
    return (*uv, "run", *where, "--with", "pip-tools", "--quiet", "python")


def _general_first(text: str) -> str:
    """Return ``text`` with options for all projects before those for one, which they would override for a reader."""
    lines = text.splitlines(keepends=True)
    general = [line for line in lines if re.fullmatch(r"--(?:no|only)-binary :all:\s*", line)]
    return "".join(general + [line for line in lines if line not in general])


def _without_host(text: str, root: Path) -> str:
    """Return ``text`` with relative paths of the checkout, without the warnings that pip-compile adds for them."""
    places = {str(root), os.path.realpath(root)}
    for place in sorted({*places, *map(quote, places)}):  # URLs quote spaces and non-ASCII characters
        text = re.sub(rf"(?:[\w.-]+(?:\[[^]]*\])? @ )?file://{re.escape(place)}/", "./", text)
    temporary = rf"^ +#   (?:-c \S*constraints\.txt|{_SOURCES} .*)\n"
    text = re.sub(temporary, "", text, flags=re.MULTILINE)
    return re.sub(r"^# WARNING: .*\n(?:# .*\n)*", "", text, flags=re.MULTILINE)
