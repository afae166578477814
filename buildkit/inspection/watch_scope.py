"""Which containers a watch is about: all of this user, or a project's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from buildkit.build.planner import open_planner
from buildkit.events import Emit
from buildkit.monitor.containers import WatchedContainer, select_project
from buildkit.tools.asked_apart import AskedApart
from buildkit.tools.running_containers import find_running


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchScope:
    """A project: its name, and its stages by the names of their images."""

    project: str
    stages: Mapping[str, str]

    def finder(self, *, every: bool) -> Callable[[], tuple[WatchedContainer, ...]]:
        """Return a function that asks podman for the project's running containers, or for ``every`` one.

        One of the project's images belongs to the project, also without the label. After its first answer, podman may
        hang: that is a ToolError after a moment.
        """
        ask = AskedApart(find_running)

        def find() -> tuple[WatchedContainer, ...]:
            found = ask()
            chosen = found if every else select_project(found, self.project, self.stages)
            return tuple(map(self._name_project, chosen))

        return find

    def _name_project(self, one: WatchedContainer) -> WatchedContainer:
        return replace(one, project=self.project) if not one.project and one.image_name in self.stages else one


def load_scope(folder: Path, emit: Emit) -> WatchScope:
    """Return the scope of a checkout. Raises DefinitionError and BuildError."""
    with open_planner(folder, emit) as planner:
        project = planner.context.project
        stages = {project.ref(stage): stage for stage in planner.graph.stages}
    return WatchScope(project=project.name, stages=stages)
