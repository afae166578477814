"""The session ``devcontainer``: write ``.devcontainer/devcontainer.json`` for work beside the services."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.gpu_environment import assumed_environment
from buildkit.build.planner import open_planner
from buildkit.cli.options import make_parser
from buildkit.cli.up import load_environment
from buildkit.errors import BuildError
from buildkit.inspection.stage_container import warn_of_notes
from buildkit.report.output_files import write_text
from buildkit.report.view import open_view
from buildkit.running.devcontainer import FILE, render_devcontainer
from buildkit.running.gpu_notes import GpuFormat, gpu_notes


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Write the file, print it, or check that it is up to date. Raises DefinitionError and BuildError."""
    parser = make_parser("devcontainer")
    parser.add_argument("environment", nargs="?", default="dev", metavar="ENVIRONMENT", help="default: %(default)s")
    parser.add_argument("service", nargs="?", default="app", metavar="SERVICE", help="to work in; default: %(default)s")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--print", action="store_true", help="only print it")
    what.add_argument("--check", action="store_true", help="fail if the file differs from what would be written")
    options = parser.parse_args(list(arguments))
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        environment = assumed_environment(load_environment(planner, options.environment))
        text = render_devcontainer(environment, options.service, planner.context.project.target)
    warn_of_notes(gpu_notes((environment.get(options.service).container,), GpuFormat.EDITOR), sys.stderr)
    path = folder / FILE
    if options.print:
        sys.stdout.write(text)
    elif options.check:
        if not path.is_file() or path.read_bytes() != text.encode():
            raise BuildError(f"{FILE} differs from services.toml", hint="nox -s devcontainer")
    else:
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)
        sys.stdout.write(f"wrote {FILE}\n")
    return 0
