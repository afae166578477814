"""Gather facts about this host from files and tools. Changes nothing, and never raises for missing ones."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from buildkit.digits import find_number
from buildkit.doctor.facts import DiskSpace, HostFacts, HostSystem, InstalledTool, SubordinateIds, UserNamespaces
from buildkit.doctor.image_store import probe_image_store
from buildkit.doctor.probe_containers import find_program, probe_containers, probe_storage
from buildkit.errors import BuildError, MissingTool
from buildkit.tools.buildah import find_isolation
from buildkit.tools.cdi import find_cdi
from buildkit.tools.gpu import find_gpus
from buildkit.tools.gpu_host import find_selinux_block
from buildkit.tools.mps_host import find_mps_host
from buildkit.tools.process import Command, find_tool, run

_VERSION = re.compile(r"\d+(?:\.\d+)+")
_VERSION_OPTIONS = {
    "buildah": "--version",
    "skopeo": "--version",
    "mmdebstrap": "--version",
    "podman": "--version",
    "crun": "--version",
    "runc": "--version",
    "git": "--version",
    "uv": "--version",
    "newuidmap": "",  # prints no version
    "fuse-overlayfs": "--version",
    "nvidia-ctk": "--version",
    "podman-compose": "--version",
}
_SETTINGS = (
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "PIP_CONFIG_FILE", "UV_INDEX_URL", "UV_INDEX",
    "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_CONFIG_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY",
    "ALL_PROXY", "NO_PROXY", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "REGISTRY_AUTH_FILE",
)  # fmt: skip
_APPARMOR_PROGRAMS = ("buildah", "podman", "crun", "runc", "mmdebstrap")


def probe_host(cache: Path) -> HostFacts:
    """Return all facts that the checks use; ``cache`` is the cache's folder, which need not exist."""
    storage = probe_storage()
    system = _system()
    return HostFacts(
        system=system,
        tools=tuple(map(probe_tool, _VERSION_OPTIONS)),
        storage=storage,
        containers=probe_containers(),
        image_store=probe_image_store(),
        isolation=find_isolation() if find_tool("buildah") else None,
        disks=_disks(storage.graph_root, cache),
        ranges=None if system.uid == 0 else _ranges(system),
        namespaces=_namespaces(Path("/proc/sys"), Path("/etc/apparmor.d")),
        debian_keyring=any(Path("/usr/share/keyrings").glob("debian-archive-keyring.*")),
        runtime_folder=system.uid == 0 or os.access(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"), os.W_OK),
        logins=find_logins(auth_files(os.environ, Path.home(), system.uid)),
        gpus=find_gpus(),
        cdi=find_cdi(),
        devices_blocked=find_selinux_block(),
        mps=find_mps_host(),
        settings=_settings(),
    )


def parse_version(text: str) -> str:
    """Return the first dotted number in a program's output; empty if there is none."""
    found = _VERSION.search(text)
    return found.group() if found else ""


def count_ids(text: str, user: str, uid: int) -> int:
    """Count the subordinate ids of a user in the text of ``/etc/subuid`` or ``/etc/subgid``."""
    total = 0
    for line in text.splitlines():
        owner, _, rest = line.partition(":")
        if owner in (user, str(uid)):
            total += find_number(rest.rpartition(":")[2]) or 0
    return total


def find_free_id(text: str) -> int:
    """Return the first id after all ranges in the text of subuid and subgid; at least 100000, as useradd does."""
    rows = [line.split(":") for line in text.splitlines()]
    ranges = [(find_number(row[1]), find_number(row[2])) for row in rows if len(row) == 3]
    ends = [first + count for first, count in ranges if first is not None and count is not None]
    return max(100000, *ends) if ends else 100000


def parse_getsubids(text: str) -> int:
    """Count the subordinate ids in the output of getsubids(1): ``0: ann 100000 65536``."""
    rows = [line.split() for line in text.splitlines()]
    return sum(find_number(row[3]) or 0 for row in rows if len(row) == 4)


def auth_files(env: Mapping[str, str], home: Path, uid: int) -> tuple[Path, ...]:
    """Return the files in which containers-auth.json(5) looks for log-ins."""
    if auth_file := env.get("REGISTRY_AUTH_FILE"):
        return (Path(auth_file),)
    runtime = Path(env.get("XDG_RUNTIME_DIR") or f"/run/containers/{uid}")
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    docker = Path(env.get("DOCKER_CONFIG") or home / ".docker")
    return (runtime / "containers/auth.json", config / "containers/auth.json", docker / "config.json")


def find_logins(files: Iterable[Path]) -> tuple[str, ...]:
    """Return the registries with a log-in, sorted; only names are read, never secrets."""
    names: set[str] = set()
    for path in files:
        content = _read_json(path)
        for table in ("auths", "credHelpers"):
            entries = content.get(table)
            if isinstance(entries, dict):
                names |= {_name_of(str(name)) for name in entries}
    return tuple(sorted(names))


def _name_of(key: str) -> str:
    """Return the host of an entry; Docker writes URLs, which may contain a password."""
    return key.partition("://")[2].rpartition("@")[2] if "://" in key else key.rpartition("@")[2]


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _system() -> HostSystem:
    import pwd

    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return HostSystem(user=user, uid=uid)


def probe_tool(name: str) -> InstalledTool:
    """Find one of the programs that builds use, and ask it for its version; one that cannot be started is not there."""
    path, option = find_program(name), _VERSION_OPTIONS[name]
    if not path and name == "uv":
        path = _bundled_uv()
    if not path or not option:
        return InstalledTool(name=name, path=path)
    try:
        output = run(Command(argv=(path, option), accept=tuple(range(256)))).text
    except MissingTool:  # a script whose interpreter this user may not start, for instance
        return InstalledTool(name=name)
    except BuildError as error:
        output = error.output
    return InstalledTool(name=name, path=path, version=parse_version(output))


def _bundled_uv() -> str:
    """Return the uv that is installed with buildkit, which need not be on PATH."""
    import sys

    path = Path(sys.executable).with_name("uv")
    return str(path) if path.exists() else ""


def _disks(graph_root: str, cache: Path) -> tuple[DiskSpace, ...]:
    places = [("images", graph_root)] if graph_root else []
    places += [
        ("cache", str(cache)),
        ("temporary files", os.environ.get("TMPDIR") or "/tmp"),  # noqa: S108 - named, not used
        ("temporary files of image tools", os.environ.get("TMPDIR") or "/var/tmp"),  # noqa: S108
    ]
    mounts = _memory_mounts(_read(Path("/proc/self/mounts")))
    disks = [_disk(use, Path(path), mounts) for use, path in places]
    return tuple({disk.path: disk for disk in reversed(disks)}.values())[::-1]


def _disk(use: str, path: Path, memory_mounts: tuple[str, ...]) -> DiskSpace:
    existing = path.absolute()
    while not os.access(existing, os.F_OK):
        existing = existing.parent
    usage = shutil.disk_usage(existing)
    place = _mount_of(existing)
    return DiskSpace(
        use=use,
        path=str(path),
        free=usage.free,
        total=usage.total,
        in_memory=place in memory_mounts,
        writable=os.access(existing, os.W_OK),
    )


def _mount_of(path: Path) -> str:
    path = path.resolve()
    while not path.is_mount():
        path = path.parent
    return str(path)


def _memory_mounts(mounts: str) -> tuple[str, ...]:
    rows = [line.split() for line in mounts.splitlines()]
    return tuple(row[1] for row in rows if len(row) > 2 and row[2] in ("tmpfs", "ramfs"))


def _ranges(system: HostSystem) -> SubordinateIds:
    """Read the ranges from the files; if they have none, ask the directory service."""
    counts = []
    texts = (_read(Path("/etc/subuid")), _read(Path("/etc/subgid")))
    for text, option in zip(texts, ((), ("-g",)), strict=True):
        count = count_ids(text, system.user, system.uid)
        if not count and (getsubids := find_program("getsubids")):
            argv = (getsubids, *option, system.user)
            count = parse_getsubids(run(Command(argv=argv, accept=tuple(range(256)))).text)
        counts.append(count)
    return SubordinateIds(uids=counts[0], gids=counts[1], free=find_free_id("\n".join(texts)))


def _namespaces(kernel: Path, profiles: Path) -> UserNamespaces:
    closed = _read(kernel / "user/max_user_namespaces").strip() == "0"
    closed = closed or _read(kernel / "kernel/unprivileged_userns_clone").strip() == "0"
    return UserNamespaces(
        allowed=not closed,
        apparmor_restricts=_read(kernel / "kernel/apparmor_restrict_unprivileged_userns").strip() == "1",
        profiles=tuple(name for name in _APPARMOR_PROGRAMS if any(profiles.glob(f"*{name}"))),
    )


def _settings() -> tuple[str, ...]:
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    home = Path.home()
    files = (
        Path("/etc/pip.conf"), config / "pip/pip.conf", home / ".pip/pip.conf",
        Path("/etc/uv/uv.toml"), config / "uv/uv.toml", home / ".netrc",
    )  # fmt: skip
    return (*(str(path) for path in files if path.exists()), *(name for name in _SETTINGS if os.environ.get(name)))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
