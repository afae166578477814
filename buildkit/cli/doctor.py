"""The session ``doctor``: diagnose this host, and tell by the exit code whether builds can work."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.cli.options import make_parser
from buildkit.command_names import name_commands
from buildkit.declare.project import load_project
from buildkit.doctor.diagnose import diagnose
from buildkit.doctor.diagnosis import Diagnosis, DiagnosisStatus
from buildkit.errors import DefinitionError


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Print the diagnosis; return 1 if it contains an error, else 0. Raises DefinitionError."""
    parser = make_parser("doctor")
    parser.description = "Check this host: what is wrong, what it costs, and the one command that mends it."
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    store = parser.add_mutually_exclusive_group()
    store.add_argument("--enable-store", action="store_true", help="let podman see the image store: no more imports")
    store.add_argument("--disable-store", action="store_true", help="take that back")
    options = parser.parse_args(list(arguments))
    if options.enable_store or options.disable_store:
        return _set_store(enabled=options.enable_store)
    findings = diagnose(arches=_other_processors(folder))
    sys.stdout.write(render_diagnoses(findings, as_json=options.json))
    return 1 if any(finding.status is DiagnosisStatus.ERROR for finding in findings) else 0


def _other_processors(folder: Path) -> tuple[str, ...]:
    try:
        project = load_project(folder)
    except DefinitionError:
        return ()  # what is wrong with the project is not the host's
    return tuple(arch for arch in project.arches if arch != project.host)


def _set_store(*, enabled: bool) -> int:
    from buildkit.doctor.image_store import disable_image_store, enable_image_store

    for line in enable_image_store() if enabled else disable_image_store():
        sys.stdout.write(f"{name_commands(line)}\n")
    return 0


def render_diagnoses(findings: tuple[Diagnosis, ...], *, as_json: bool) -> str:
    """Return the findings as JSON or for people, with commands as this user types them."""
    from buildkit.doctor.render import render_json, render_text

    if as_json:
        return render_json(findings)
    terminal = sys.stdout.isatty()
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    text = render_text(findings, width=shutil.get_terminal_size().columns if terminal else 110, colour=colour)
    return name_commands(text)
