"""Sessions of this repository: ``nox -l`` lists them. Any nox may run this; the work is done in ``.venv``."""

import os
import sys
from pathlib import Path

_VENV = Path(__file__).parent / ".venv"
_PYTHON = _VENV / "bin" / "python"

if Path(sys.prefix) != _VENV and _PYTHON.exists() and "NOX_CURRENT_SESSION" not in os.environ:
    # a nox from elsewhere lacks what building needs: continue in the environment that ci/bootstrap made
    os.execv(_PYTHON, [str(_PYTHON), "-m", "nox", *sys.argv[1:]])  # noqa: S606 - no shell is meant

import nox

from buildkit.sessions import register

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "none"

register()


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after -- go to pytest."""
    session.run_install("uv", "pip", "install", "--quiet", "--group", "tests", env={"VIRTUAL_ENV": str(_VENV)})
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and the direction of imports."""
    session.run_install("uv", "pip", "install", "--quiet", "--group", "lint", env={"VIRTUAL_ENV": str(_VENV)})
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.run_install("uv", "pip", "install", "--quiet", "--group", "lint", env={"VIRTUAL_ENV": str(_VENV)})
    session.run("mypy")
