"""Known vulnerabilities of Python packages, from an advisory service through ``uv audit``.

uv audits projects with its own lock format, so such a lock is written for the pins, in a temporary folder. The service
speaks the OSV format (https://google.github.io/osv.dev/api/). An incomplete answer is an error: it must never look like
a pass.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.errors import FetchError
from buildkit.tools.process import Command, CommandResult, run
from buildkit.tools.resolver import uv_program

_NOTHING, _FOUND, _FAILED = 0, 1, 2  # uv's exit codes
_INDEX = "https://pypi.org/simple"  # required by the lock format; nothing is fetched from it
_PREVIEW = "audit-command,json-output"
_QUIET = {"VIRTUAL_ENV": "", "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vulnerability:
    """An advisory for a package: ``fixed`` are versions without it, ``link`` is its page."""

    id: str
    name: str
    version: str
    aliases: tuple[str, ...] = ()
    summary: str = ""
    fixed: tuple[str, ...] = ()
    link: str = ""


def audit(pins: Sequence[tuple[str, str]], python: str, *, service: str = "") -> tuple[Vulnerability, ...]:
    """Return the known vulnerabilities of names and versions for ``python`` (``3.13``), sorted.

    ``service`` is the URL of another advisory service. Raises FetchError for an incomplete answer, and MissingTool.
    """
    packages = sorted({(name, version.partition("+")[0]) for name, version in pins})  # advisories name public versions
    if not packages:
        return ()
    with tempfile.TemporaryDirectory(prefix="buildkit-audit-") as folder:
        place = Path(folder)
        (place / "pyproject.toml").write_text(_render_project(python), "utf-8")
        (place / "uv.lock").write_text(_render_lock(packages, python), "utf-8")
        finished = run(Command(argv=_argv(place, service), env=_QUIET, cwd=place, accept=(0, 1, 2), what="uv audit"))
    return parse_answer(finished, len(packages))


def _argv(place: Path, service: str) -> tuple[str, ...]:
    return (
        *uv_program(),
        "audit",
        "--project", str(place), "--directory", str(place),  # over the environment
        "--frozen",                          # do not update the lock
        "--no-cache",                        # never an outdated answer
        "--no-python-downloads",
        "--no-progress",
        "--output-format", "json",
        "--preview-features", _PREVIEW,
        *(("--service-url", service) if service else ()),
    )  # fmt: skip


def _render_project(python: str) -> str:
    return f'[project]\nname = "audited"\nversion = "0"\nrequires-python = ">={python}"\n'


def _render_lock(pins: Sequence[tuple[str, str]], python: str) -> str:
    tables = [(json.dumps(name), json.dumps(version)) for name, version in pins]
    source = f'source = {{ registry = "{_INDEX}" }}'
    packages = "".join(f"[[package]]\nname = {name}\nversion = {version}\n{source}\n\n" for name, version in tables)
    needs = "".join(f"    {{ name = {name}, version = {version}, {source} }},\n" for name, version in tables)
    root = f'[[package]]\nname = "audited"\nversion = "0"\nsource = {{ virtual = "." }}\ndependencies = [\n{needs}]\n'
    return f'version = 1\nrevision = 3\nrequires-python = ">={python}"\n\n{packages}{root}'


def parse_answer(finished: CommandResult, count: int) -> tuple[Vulnerability, ...]:
    """Parse what ``uv audit`` said of ``count`` packages. Raises FetchError for anything else."""
    if finished.code == _FAILED:
        raise _no_answer(_reason(finished.stderr.decode("utf-8", "replace")))
    try:
        value = json.loads(finished.stdout)
        vulnerabilities = tuple(_vulnerability(entry) for entry in value["vulnerabilities"])
        audited = value["summary"]["audited_packages"]
        adverse = tuple(_adverse(entry) for entry in value.get("adverse_statuses", ()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_answer(f"uv's answer cannot be read ({type(error).__name__})") from error
    if audited != count:
        raise _no_answer(f"uv looked at {audited} of {count} packages")
    if bool(vulnerabilities or adverse) != (finished.code == _FOUND):
        raise _no_answer(f"uv's exit code {finished.code} and its answer differ")
    return tuple(
        sorted((*vulnerabilities, *adverse), key=lambda advisory: (advisory.name, advisory.version, advisory.id))
    )


def _vulnerability(entry: dict[str, Any]) -> Vulnerability:
    shown = str(entry["display_id"])
    names = {str(entry["id"]), *map(str, entry.get("aliases") or ())} - {shown}
    return Vulnerability(
        id=shown,
        name=str(entry["dependency"]["name"]),
        version=str(entry["dependency"]["version"]),
        aliases=tuple(sorted(names)),
        summary=str(entry.get("summary") or ""),
        fixed=tuple(map(str, entry.get("fix_versions") or ())),
        link=str(entry.get("link") or ""),
    )


def _adverse(entry: dict[str, Any]) -> Vulnerability:
    """Return the status of a project by its index (PEP 792): quarantined, deprecated or archived."""
    dependency = entry.get("dependency", entry)
    status = str(entry.get("status") or "adverse status")
    summary = str(entry.get("reason") or "its index says so of the whole project")
    return Vulnerability(
        id=status, name=str(dependency["name"]), version=str(dependency.get("version") or ""), summary=summary
    )


def _reason(output: str) -> str:
    """Return the first line and the last cause of uv's error."""
    if "unrecognized subcommand" in output:
        return "this uv has no `audit`: a newer one is needed"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    causes = [line.removeprefix("cause: ").removeprefix("Caused by: ") for line in lines if line[:5].lower() == "cause"]
    return "; ".join([*errors[:1], *causes[-1:]]) or "uv audit failed"


def _no_answer(why: str) -> FetchError:
    hint = "this is not a pass: try again with a network, or name a service that is reachable: --service URL"
    return FetchError(f"could not check for known vulnerabilities: {why}", hint=hint)
