"""Make a model's reference profile: a program of its image runs over reference data, and prints it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from buildkit.build.planner import Planner
from buildkit.errors import BuildError, DefinitionError
from buildkit.inspection.stage_container import describe_container, missing_needs, prepare_network, warn_of_lacks
from buildkit.report.text import sanitize
from buildkit.running.flags import run_argv
from buildkit.running.host import find_unsupported
from buildkit.running.mounts import BindMount
from buildkit.tools import podman, process
from buildkit.xoe_runtime.drift_profile import DriftProfile, parse_profile

_DATA = "/data"


def make_drift_profile(planner: Planner, stage: str, data: Path, program: str) -> DriftProfile:
    """Run ``python -m PROGRAM /data`` in a stage's image, and return the profile that it prints.

    The container has the flags of ``run-STAGE`` but no port and so no network, and the folder ``data`` read-only.
    Raises DefinitionError, ToolError, and BuildError if the image is not there or prints something else.
    """
    if not data.is_dir():
        raise DefinitionError(f"{data}: is no folder", hint="name one with inputs like those to be expected")
    described = describe_container(planner, stage, name=f"{planner.context.project.name}-{stage}-profile")
    if podman.find_image_config(described.image) is None:
        raise BuildError(f"{described.image} is not in local storage", hint=f"nox -s build-{stage}")
    mount = BindMount(source=str(data.resolve()), target=_DATA, shared=False)
    command = ("python", "-m", program, _DATA)
    container = replace(described, ports=(), health=None, mounts=(mount,), entrypoint=(), command=command)
    with prepare_network(container) as host:
        lacks = find_unsupported(container, host)
        warn_of_lacks(lacks, sys.stderr)
        argv = run_argv(container.on_this_host(), "--rm", lacking=missing_needs(lacks), needed=host.options)
        try:
            done = process.run(process.Command(argv=argv, what=f"python -m {program} in {container.image}"))
        except BaseException:
            podman.remove(container.name)
            raise
    sys.stderr.write(sanitize(done.stderr.decode("utf-8", "replace")))
    try:
        return parse_profile(done.stdout.decode("utf-8", "replace"))
    except ValueError as error:
        raise BuildError(
            f"python -m {program} printed no profile: it {error}", hint="docs/drift.md says what"
        ) from error
