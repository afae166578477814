"""The environment of a race: a temporary folder with a registry on loopback, removed afterwards.

Nothing touches the user's images, caches or settings: every participant has its own home, storage and caches here."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from buildkit.bench.counting_proxy import CountingProxy, open_counting_proxy
from buildkit.bench.held_memory import HeldMemory
from buildkit.doctor.containersconf import render_containers_conf
from buildkit.doctor.probe_containers import probe_containers
from buildkit.errors import BuildError
from buildkit.tools.process import Command, run, start

_STORAGE = """[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
[storage.options]
additionalimagestores = [{stores}]
[storage.options.overlay]
skip_mount_home = "true"
"""
_REGISTRIES = """[[registry]]
location = "{host}"
insecure = true
"""
_PATIENCE = 20.0
_OLD, _KEPT = "-old", 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantLane:
    """One participant's own folder, and the environment variables that keep tools inside it."""

    folder: Path
    env: Mapping[str, str]


class RaceEnvironment:
    """The folder and its registry at ``proxy.host``. ``data`` is the registry's storage folder.

    With ``fill_memory``, little memory is free when a turn begins.
    """

    def __init__(self, folder: Path, proxy: CountingProxy, *, fill_memory: bool = False) -> None:
        self.folder = folder
        self.proxy = proxy
        self.data = folder / "registry/data"
        self._containers = render_containers_conf(probe_containers())
        self._memory = HeldMemory(folder) if fill_memory else None

    def lane(self, name: str, *, image_store: bool = False) -> ParticipantLane:
        """Create an empty lane, replacing an earlier one of the same name; its tools may see an image store.

        The earlier one is moved aside, and removed much later: ext4 passes over each inode that was freed within the
        last minutes, so whoever makes files after thousands were removed would pay for it.
        """
        folder = self.folder / name
        if folder.exists():
            unmount_below(folder)
            folder.rename(self.folder / f"{name}-{time.monotonic_ns():020}{_OLD}")
            for old in sorted(self.folder.glob(f"{name}-*{_OLD}"))[:-_KEPT]:
                remove_tree(old)
        for part in ("home/.config/containers", "tmp"):
            (folder / part).mkdir(parents=True)
        (folder / "run").mkdir(mode=0o700)
        (folder / "home/.config/containers/registries.conf").write_text(_REGISTRIES.format(host=self.proxy.host))
        (folder / "home/auth.json").write_text("{}\n")
        env = {
            "HOME": str(folder / "home"),
            "XDG_CONFIG_HOME": str(folder / "home/.config"),
            "XDG_CACHE_HOME": str(folder / "home/.cache"),
            "XDG_DATA_HOME": str(folder / "home/.local/share"),
            "TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8",
            "BUILDKIT_CACHE": str(folder / "cache"),
            "REGISTRY_AUTH_FILE": str(folder / "home/auth.json"),
        }
        store = folder / "store"
        if image_store:
            store.mkdir(mode=0o700)
            env["BUILDKIT_STORE"] = str(store)
        settings = _STORAGE.format(folder=folder, stores=f'"{store}"' if image_store else "")
        if os.geteuid() == 0:
            (folder / "storage.conf").write_text(settings)
            env["CONTAINERS_STORAGE_CONF"] = str(folder / "storage.conf")
        else:
            (folder / "home/.config/containers/storage.conf").write_text(settings)
            env["XDG_RUNTIME_DIR"] = str(folder / "run")
        if self._containers:
            (folder / "containers.conf").write_text(self._containers)
            env["CONTAINERS_CONF"] = str(folder / "containers.conf")
        return ParticipantLane(folder=folder, env=env)

    def settle(self) -> None:
        """Write what is to be written, and fill free memory if that was asked for, before a turn begins."""
        os.sync()
        if self._memory:
            self._memory.fill()

    def forget(self, repository: str) -> None:
        """Drop a repository from the registry, so that it accepts every blob of it again."""
        shutil.rmtree(self.data / "docker/registry/v2/repositories" / repository, ignore_errors=True)


@contextmanager
def open_environment(*, fill_memory: bool = False) -> Iterator[RaceEnvironment]:
    """Create an environment below ``$TMPDIR`` or /var/tmp: a race writes gigabytes. Raises BuildError."""
    folder = Path(tempfile.mkdtemp(prefix="bkb-", dir=os.environ.get("TMPDIR") or "/var/tmp"))  # noqa: S108
    try:
        with _open_registry(folder / "registry") as behind, open_counting_proxy(behind) as proxy:
            yield RaceEnvironment(folder, proxy, fill_memory=fill_memory)
    finally:
        remove_tree(folder)


@contextmanager
def _open_registry(folder: Path) -> Iterator[tuple[str, int]]:
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    path = folder / "config.yml"
    path.write_text(json.dumps(config))  # JSON is valid YAML
    command = Command(argv=("docker-registry", "serve", str(path)), env={"OTEL_TRACES_EXPORTER": "none"})
    with background(command):
        _await_port(port)
        yield "127.0.0.1", port


@contextmanager
def background(command: Command, log: Path | None = None) -> Iterator[int]:
    """Run a daemon with its output in ``log``, yield its process id, and stop it at the end. Raises MissingTool."""
    with start(command) as child:
        for pipe in (child.stdout, child.stderr):
            threading.Thread(target=_drain, args=(pipe, log), daemon=True).start()
        yield child.pid


def _drain(pipe: object, log: Path | None) -> None:
    with suppress(ValueError, OSError):  # the pipe is closed once the daemon has ended
        for line in pipe:  # type: ignore[attr-defined]
            if log is not None:
                with log.open("ab") as file:
                    file.write(line)


def _await_port(port: int) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise BuildError("the registry does not answer", hint="try: docker-registry --version") from None
            time.sleep(0.05)
        else:
            return


def remove_tree(folder: Path) -> None:
    """Remove a folder, including mounts of containers and daemons in it and files of subordinate ids."""
    unmount_below(folder)
    if os.geteuid() != 0 and folder.exists():
        argv = ("buildah", "unshare", "rm", "-rf", "--", str(folder))
        run(Command(argv=argv, accept=tuple(range(256)), is_cleanup=True))
    shutil.rmtree(folder, ignore_errors=True)


def unmount_below(folder: Path) -> None:
    """Unmount what containers and daemons have mounted below a folder."""
    mounts = Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()
    for mount in sorted((line.split(" ")[1] for line in mounts), reverse=True):
        if mount.startswith(f"{folder}/"):
            run(Command(argv=("umount", "--lazy", mount), accept=tuple(range(256)), is_cleanup=True))


def used_space(folder: Path) -> int:
    """Return the bytes a folder takes on disk. A file with several hard links counts once."""
    argv = ("du", "--summarize", "--block-size=1", "--one-file-system", "--", str(folder))
    return int(run(Command(argv=argv, accept=(0, 1), what="du")).text.split()[0])
