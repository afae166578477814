"""Measure what a look costs: ``python -m tests.monitor.bench_top [FOLDER]`` prints ms of CPU for 50 containers.

Their groups are made-up files, or with the name of a group (such as ``bench``) real ones of this host, which root makes
and removes in every hierarchy.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buildkit.inspection.container_watch import ContainerWatch, WatchSources
from buildkit.monitor.containers import WatchedContainer
from buildkit.monitor.hierarchy import parse_cgroup_mounts
from buildkit.tools.cgroups import CgroupReader
from tests.monitor.cgrouphosts import NETWORK, CgroupHost

_CONTAINERS, _LOOKS = 50, 50
IDS = {pid: f"{pid:064x}" for pid in range(1, _CONTAINERS + 1)}


def measure(reader: CgroupReader) -> float:
    """Return ms of CPU for a look at all containers."""
    found = tuple(WatchedContainer(id=i, name=i[-4:], pid=pid, image="", image_name="") for pid, i in IDS.items())
    sources = WatchSources(
        find_running=lambda: found, reader=reader, measure_gpus=tuple, clock=time.monotonic, wall=time.time
    )
    watch = ContainerWatch(sources=sources)
    assert all(view.usage and view.usage.memory is not None for view in watch.look().containers)
    before = time.process_time()
    for _ in range(_LOOKS):
        watch.look()
    return (time.process_time() - before) / _LOOKS * 1000


@contextmanager
def real_groups(folder: Path, name: str) -> Iterator[CgroupReader]:
    """Make the groups in every hierarchy, and made-up processes in them."""
    mounts = Path("/proc/self/mountinfo").read_text()
    rows = Path("/proc/self/cgroup").read_text().splitlines()
    made: list[Path] = []
    try:
        for mount in parse_cgroup_mounts(mounts):
            for path in (Path(mount.folder, name), *(Path(mount.folder, name, f"libpod-{i}") for i in IDS.values())):
                path.mkdir()
                made.append(path)
        (folder / "self").mkdir()
        (folder / "self/mountinfo").write_text(mounts)
        for pid, ident in IDS.items():
            (folder / f"{pid}/net").mkdir(parents=True)
            (folder / f"{pid}/net/dev").write_text(NETWORK)
            groups = [":".join((*row.split(":")[:2], f"/{name}/libpod-{ident}")) for row in rows]
            (folder / f"{pid}/cgroup").write_text("\n".join(groups))
        yield CgroupReader(folder)
    finally:
        for path in reversed(made):
            path.rmdir()


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="bk-") as folder:
        if name := "".join(sys.argv[1:]):
            with real_groups(Path(folder), name) as reader:
                print(f"this host: {measure(reader):.1f} ms")
            return
        for kind in ("v1", "v2", "hybrid"):
            host = CgroupHost(Path(folder, kind), kind)
            for pid, ident in IDS.items():
                host.add(pid, f"/libpod_parent/libpod-{ident}")
            print(f"{kind}: {measure(CgroupReader(host.proc)):.1f} ms")


if __name__ == "__main__":
    main()
