"""Says, before anything is done, which layers need programs of another processor, and whether they run here."""

from __future__ import annotations

from buildkit.build.planner import Planner
from buildkit.errors import BuildError
from buildkit.events import Note
from buildkit.plan.emulation import find_emulated
from buildkit.plan.plan import LayerSource, Plan
from buildkit.tools.emulation import can_emulate

ADVICE = "run: apt-get install qemu-user-static arch-test (nox -s doctor checks it)"


def check_emulation(planner: Planner, plan: Plan) -> None:
    """Note which layers are made by emulation. Raises BuildError if the machine has none for them."""
    project = planner.context.project
    missing = [layer.spec for layer in plan.missing]
    missing += [layer.spec for layer in planner.plan_tools(plan) if layer.source is LayerSource.BUILT]
    found = find_emulated(missing, project, planner.composer, planner.context.files.find_wheel)
    work = [f"{one.layer} ({one.what})" for one in found]
    if not work:
        return
    arch, listed = project.target.arch, ", ".join(dict.fromkeys(work))
    if not can_emulate(arch):
        raise BuildError(
            f"this machine is {project.host}, and these layers run programs for {arch}: {listed}",
            hint=f"{ADVICE}; or build on an {arch} machine with --cache-write, and read that cache here",
        )
    planner.context.emit(Note(text=f"programs for {arch} run by emulation, which takes many times longer: {listed}"))
