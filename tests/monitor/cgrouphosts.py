"""Made-up hosts: folders that look like /proc and /sys/fs/cgroup of v1, v2 and hybrid ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from buildkit.tools.cgroups import CgroupReader

PSI = "some avg10=12.50 avg60=1.00 avg300=0.50 total=2500000\nfull avg10=2.00 avg60=0.00 avg300=0.00 total=100000\n"
NETWORK = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"
    "    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n"
    "  eth0: 1000 2 0 0 0 0 0 0 300 3 0 0 0 0 0 0\n"
    "  eth1:500 2 0 0 0 0 0 0 20 3 0 0 0 0 0 0\n"
)
V1 = {
    "cpuacct": {"cpuacct.usage": "3000000000\n"},
    "cpu": {
        "cpu.stat": "nr_periods 100\nnr_throttled 25\nthrottled_time 500000000\n",
        "cpu.cfs_quota_us": "50000\n",
        "cpu.cfs_period_us": "100000\n",
    },
    "memory": {
        "memory.usage_in_bytes": "1000000\n",
        "memory.stat": "inactive_file 1\ntotal_inactive_file 400000\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        "memory.limit_in_bytes": "2000000\n",
    },
    "pids": {"pids.current": "7\n", "pids.max": "20\n"},
    "blkio": {
        "blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 5\nTotal 35\n"
    },
}
V2 = {
    "cpu.stat": "usage_usec 3000000\nuser_usec 1\nnr_periods 100\nnr_throttled 25\nthrottled_usec 500000\n",
    "cpu.max": "50000 100000\n",
    "memory.current": "1000000\n",
    "memory.stat": "anon 5\ninactive_file 400000\n",
    "memory.events": "low 0\nmax 4\noom 3\noom_kill 2\n",
    "memory.max": "2000000\n",
    "pids.current": "7\n",
    "pids.max": "20\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=5\n",
}
PRESSURE = {f"{name}.pressure": PSI for name in ("cpu", "memory", "io")}


@dataclass
class CgroupHost:
    """A host; ``kind`` is ``v1``, ``v2`` or ``hybrid``."""

    folder: Path
    kind: str
    mounts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, names in enumerate(self._names):
            where, kind = (f"{self.root}/{names}", "cgroup") if names else (self._unified, "cgroup2")
            self.mounts.append(f"{number} 1 0:{number} / {where} rw,relatime shared:1 - {kind} cgroup rw,{names}")
        self._write(
            self.folder / "proc/self/mountinfo", "22 1 0:1 / / rw - ext4 /dev/sda rw\n" + "\n".join(self.mounts)
        )

    @property
    def root(self) -> Path:
        return self.folder / "sys/fs/cgroup"

    @property
    def proc(self) -> Path:
        return self.folder / "proc"

    @property
    def reader(self) -> CgroupReader:
        return CgroupReader(self.proc, held=0)  # a held file on a disk would outlive its folder

    @property
    def _names(self) -> tuple[str, ...]:
        return {"v1": ("cpu,cpuacct", "memory", "pids", "blkio"), "v2": ("",)}.get(
            self.kind, ("cpu,cpuacct", "memory", "pids", "blkio", "")
        )

    @property
    def _unified(self) -> str:
        return str(self.root / "unified" if self.kind == "hybrid" else self.root)

    def add(self, pid: int, group: str) -> None:
        """A container whose first process is ``pid``, in a group."""
        rows = [f"{number}:{names}:{group}" for number, names in enumerate(self._names)]
        self._write(self.folder / f"proc/{pid}/cgroup", "\n".join(rows) + "\n")
        self._write(self.folder / f"proc/{pid}/net/dev", NETWORK)
        own = group.removesuffix("/container").removesuffix("/init.scope")
        for path, text in self._files(own).items():
            self._write(path, text)

    def _files(self, group: str) -> dict[Path, str]:
        if self.kind == "v2":
            return {Path(f"{self.root}{group}/{name}"): text for name, text in (V2 | PRESSURE).items()}
        folders = {name: names for names in self._names for name in names.split(",")}
        found = {
            Path(f"{self.root}/{folders[name]}{group}/{file}"): text
            for name, files in V1.items()
            for file, text in files.items()
        }
        if self.kind == "hybrid":
            wrong = {"cpu.stat": "usage_usec 1\n"}  # of no use: the controller is in v1
            found |= {Path(f"{self._unified}{group}/{name}"): text for name, text in (PRESSURE | wrong).items()}
        return found

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
