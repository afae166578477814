"""Look at running containers again and again: podman is asked rarely, the kernel each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

from buildkit.errors import MissingTool, ToolError
from buildkit.gpu.use import ContainerGpu, GpuUse, divide
from buildkit.monitor.containers import WatchedContainer
from buildkit.monitor.hierarchy import CgroupFiles, group_id
from buildkit.monitor.rates import UsageAt, look, rates
from buildkit.monitor.snapshot import ContainerView, GpuShare, Snapshot
from buildkit.monitor.usage import CgroupLimits
from buildkit.tools.cgroups import CgroupReader

PATIENCE = 60.0  # seconds until podman is asked again for names, health and restarts
LEAST = 2.0  # seconds between two questions, however fast containers come and go
_RETRY = 10.0  # seconds until podman is asked again after it failed
_EXPECTED: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSources:
    """What is watched: ``find_running`` asks podman, ``measure_gpus`` NVML, ``reader`` the kernel.

    ``clock`` is never set back, ``wall`` tells the time of day. ``expected`` are ids of images by name, as this
    checkout would build them.
    """

    find_running: Callable[[], tuple[WatchedContainer, ...]]
    reader: CgroupReader
    measure_gpus: Callable[[], tuple[GpuUse, ...]]
    clock: Callable[[], float]
    wall: Callable[[], float]
    expected: Callable[[tuple[str, ...]], Mapping[str, str]] = lambda _names: _EXPECTED


@dataclass(slots=True, kw_only=True)
class _Watched:
    container: WatchedContainer
    files: CgroupFiles
    limits: CgroupLimits
    last: UsageAt | None = None


@dataclass(slots=True, kw_only=True)
class ContainerWatch:
    """Containers from look to look; nothing is kept of those that ended.

    podman is not asked twice in ``least`` seconds. If it fails later, which ``failures`` counts, those that it named
    before are watched on. About a group that it does not know it is asked twice: it may be another user's, or may only
    just have begun.
    """

    sources: WatchSources
    least: float = LEAST
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _groups: frozenset[str] = frozenset()
    _doubted: frozenset[str] = frozenset()
    failures: int = 0
    _asked_at: float | None = None
    _lost: bool = False
    _problem: str = ""

    def look(self) -> Snapshot:
        """Return all containers as they are now. Raises MissingTool or ToolError if podman fails at the first look."""
        now = self.sources.clock()
        if self._must_ask(now):
            self._try_to_ask(now)
        uses = self.sources.measure_gpus()
        shares = divide(uses, self.sources.reader.find_container)
        names = tuple(sorted({one.container.image_name for one in self._watched.values()}))
        expected = self.sources.expected(names)
        views = [self._view(one, shares.get(one.container.id, ()), expected) for one in self._watched.values()]
        self._lost = any(map(_is_lost, views))
        problems = tuple(f"GPU {use.index}: {use.problem}" for use in uses if use.problem)
        return Snapshot(
            time=self.sources.wall(), containers=tuple(views), gpu_problems=problems, podman_problem=self._problem
        )

    def _must_ask(self, now: float) -> bool:
        """Return whether containers may have come, gone or begun anew; a clock that was set back counts as waiting."""
        if self._asked_at is None:
            return True
        waited = abs(now - self._asked_at)
        if self._problem:
            return waited >= _RETRY
        return waited >= self.least and (waited >= PATIENCE or self._lost or self._have_groups_changed())

    def _have_groups_changed(self) -> bool:
        """Return whether a group is new, or one of a container that is watched has gone; others' may go."""
        found, before = self._list_groups(), self._groups
        self._groups = before & found
        return not found <= before or any(group_id(name) in self._watched for name in before - found)

    def _list_groups(self) -> frozenset[str]:
        return self.sources.reader.list_groups(one.files for one in self._watched.values())

    def _try_to_ask(self, now: float) -> None:
        try:
            self._ask(now)
        except (MissingTool, ToolError) as error:
            if self._asked_at is None:
                raise
            self._asked_at, self._problem = now, error.message
            self.failures += 1
        else:
            self._problem = ""

    def _ask(self, now: float) -> None:
        """Ask podman; what was seen before of the containers that are still there is kept."""
        groups = self._list_groups()  # before: one that begins meanwhile is asked about again
        reader, before, found = self.sources.reader, self._watched, {}
        for container in self.sources.find_running():
            files = reader.find_files(container.pid, container.id)
            known = before.get(container.id)
            last = known.last if known else None
            found[container.id] = _Watched(
                container=container, files=files, limits=reader.read_limits(files), last=last
            )
        reader.keep(one.files for one in found.values())
        self._watched, self._asked_at = found, now
        doubtful = frozenset(name for name in groups - self._groups - self._doubted if group_id(name) not in found)
        self._groups, self._doubted = groups - doubtful, doubtful

    def _view(self, one: _Watched, gpus: tuple[ContainerGpu, ...], expected: Mapping[str, str]) -> ContainerView:
        container, reader = one.container, self.sources.reader
        usage = reader.read_usage(one.files, container.pid, network=container.own_network)
        wanted = expected.get(container.image_name)
        view = ContainerView(
            container=container,
            usage=usage,
            limits=one.limits,
            gpus=tuple(GpuShare(**asdict(gpu)) for gpu in gpus),
            expected=None if wanted is None else wanted == container.image,
        )
        if usage is None:
            return view
        seen = look(self.sources.clock(), usage, one.last)
        rate = rates(one.last, seen)
        one.last = seen
        return replace(view, rates=rate, oom_kills=seen.oom_kills)


def _is_lost(view: ContainerView) -> bool:
    """Return whether a container, or its first process, has ended: one that begins anew has the same groups."""
    return view.usage is None or (view.container.own_network and view.usage.received is None)
