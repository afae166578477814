"""Resolve requirements to locks with ``uv pip compile`` or pip-tools, behind one function.

Neither may write an index, a host or a path of this machine into a lock; packages of the repository stay
``./libs/x``. uv resolves for all platforms at once (with markers); pip-compile only for the Python that it runs on,
which therefore must be the target's.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from buildkit.errors import DefinitionError, MissingTool
from buildkit.tools.process import Command, find_tool, run


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveRequest:
    """A request to resolve ``inputs``, relative to ``root``, for Python ``python`` (``3.13``), by ``locker``.

    ``preferred`` is the text of an earlier lock whose versions are kept if they still fit; ``constraints`` are
    requirements that every pin must meet; ``env`` is added to the environment.
    """

    root: Path
    inputs: tuple[str, ...]
    python: str
    locker: str = "uv"
    preferred: str = ""
    constraints: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


_INSTALL = "run ci/bootstrap, or: pip install 'xoe-buildkit[pip-tools]'"


def resolve(request: ResolveRequest) -> str:
    """Return the text of the lock. Raises ToolError with the resolver's output, MissingTool or DefinitionError."""
    prefix = _uv(request) if request.locker == "uv" else _pip_compile(request)
    with tempfile.TemporaryDirectory(prefix="buildkit-lock-") as folder:
        output = Path(folder) / "lock.txt"
        if request.preferred:
            output.write_text(request.preferred, "utf-8")
        bounds: tuple[str, ...] = ()
        if request.constraints:
            limits = Path(folder) / "constraints.txt"
            limits.write_text(request.constraints, "utf-8")
            bounds = ("--constraint", str(limits))
        argv = (*prefix, *bounds, "--output-file", str(output), *request.inputs)
        what = f"locking {', '.join(request.inputs)} with {request.locker}"
        run(Command(argv=argv, env={**_QUIET, **request.env}, cwd=request.root, what=what))
        return _without_host(output.read_text("utf-8"), request.root)


# settings of the caller's shell must not reach a lock
_QUIET = {
    "UV_CUSTOM_COMPILE_COMMAND": "nox -s lock",
    "CUSTOM_COMPILE_COMMAND": "nox -s lock",
    "NO_COLOR": "1",
    "VIRTUAL_ENV": "",
}


def _uv(request: ResolveRequest) -> tuple[str, ...]:
    return (
        *uv_program(),
        "pip", "compile",
        "--universal",                           # one lock for every platform: markers decide
        "--python-version", request.python,      # the target's, never the host's
        "--no-python-downloads",                 # its number is enough to resolve for it
        *(("--no-index",) if request.env.get("UV_NO_INDEX") else ()),  # uv itself reads no such variable
        "--generate-hashes",
        "--no-header",
        "--quiet", "--no-progress",
    )  # fmt: skip


def _pip_compile(request: ResolveRequest) -> tuple[str, ...]:
    return (
        *_python_with_pip_tools(request.python), "-m", "piptools", "compile",
        "--generate-hashes",
        "--allow-unsafe",                        # setuptools is a pin like any other
        "--strip-extras",
        "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options",
        "--resolver", "backtracking",
        "--quiet",
    )  # fmt: skip


def uv_program() -> tuple[str, ...]:
    """Return the command of uv: from this environment, else from PATH. Raises MissingTool."""
    if importlib.util.find_spec("uv") is not None:
        return (sys.executable, "-m", "uv")
    if path := find_tool("uv"):
        return (path,)
    raise MissingTool("uv is not installed", hint="run ci/bootstrap, or: pip install uv")


def _python_with_pip_tools(version: str) -> tuple[str, ...]:
    """Return the command of a Python of the target's version with pip-tools: this one, or one that uv provides."""
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
    return (*uv, "run", "--no-project", "--python", version, "--with", "pip-tools", "--quiet", "python")


def _without_host(text: str, root: Path) -> str:
    """Return ``text`` with relative paths of the checkout, without the warnings that pip-compile adds for them."""
    places = {str(root), os.path.realpath(root)}
    for place in sorted({*places, *map(quote, places)}):  # URLs quote spaces and non-ASCII characters
        text = re.sub(rf"(?:[\w.-]+(?:\[[^]]*\])? @ )?file://{re.escape(place)}/", "./", text)
    text = re.sub(r"^ +#   -c \S*constraints\.txt\n", "", text, flags=re.MULTILINE)  # a temporary file
    return re.sub(r"^# WARNING: .*\n(?:# .*\n)*", "", text, flags=re.MULTILINE)
