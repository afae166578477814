"""Run ``bench-dev`` by podman of Debian 12 and 13, as root and as an ordinary user, on one machine that has Debian 12.

``python -m tests.e2e.dev_bench_hosts docs/development.md [HOST …]``, as root. Debian 13 is a root with docker's engine,
so that docker compose watch is raced, too. Each host has storage, a cache and a network namespace of its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from buildkit.build.context import cache_folder
from tests.e2e.test_dev_hosts import TUNNEL
from tests.imagestore.debian13 import ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.users import become, ordinary_user, python_of

_REPOSITORY = Path(__file__).parents[2]
_MORE = ("mmdebstrap", "docker.io", "docker-cli", "docker-compose", "busybox-static", "iptables", "procps", "iproute2")
_ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_DOCKERD = r"""dockerd --data-root "$0/docker" \
    --exec-root /run/dockerd --pidfile /run/dockerd.pid > "$0/dockerd.log" 2>&1 &
daemon=$!
"$@"; code=$?
kill $daemon; wait $daemon
exit $code
"""
HOSTS = ("debian-12-root", "debian-12-user", "debian-13-root", "debian-13-user")


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"bk-{name}-"))
    folder.chmod(0o755)
    host = StorageHost(folder)
    try:
        yield folder
    finally:
        host.remove()


def _prepare(folder: Path) -> StorageHost:
    host = StorageHost(folder)
    host.prepare(stores=False)
    host.env.update({"BUILDKIT_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp"), "UV_NO_CONFIG": "1"})
    host.env.update({name: os.environ[name] for name in ("PIP_CERT", "https_proxy") if name in os.environ})
    (folder / "tmp").mkdir()
    shutil.copytree(cache_folder() / "files", folder / "cache/files")  # downloads
    clone = ("git", "clone", "--quiet", "--no-hardlinks", str(_REPOSITORY), str(folder / "project"))
    subprocess.run(clone, check=True)
    return host


def _give(host: StorageHost, user: pwd.struct_passwd) -> tuple[str, ...]:
    """Make an ordinary user the owner, with that user's own storage; return the words that become the user."""
    host.env.pop("CONTAINERS_STORAGE_CONF")
    host.env.update({"USER": user.pw_name, "LOGNAME": user.pw_name})
    subprocess.run(("chown", "--recursive", f"{user.pw_uid}:{user.pw_gid}", str(host.folder)), check=True)
    return become(user)


def _install(folder: Path) -> None:
    """Install what Debian 13's Python needs to run sessions."""
    argv = ("pip", "install", "--quiet", "--link-mode=copy", "--python-version=3.13", f"--target={folder / 'site'}")
    subprocess.run((sys.executable, "-m", "uv", *argv, str(_REPOSITORY), "debugpy", "podman-compose"), check=True)
    for script in (folder / "site/bin").iterdir():  # made for the Python that installed them
        _, _, rest = script.read_bytes().partition(b"\n")
        script.write_bytes(b"#!/usr/bin/python3\n" + rest)


def bench(name: str, document: Path, options: Sequence[str]) -> None:
    """Run the benchmark on one host, and write its column."""
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(name))
        host = _prepare(folder)
        shutil.copy(document, folder / "table.md")
        python = sys.executable
        before: tuple[str, ...] = ()
        beside: tuple[str, ...] = ()
        if "13" in name:
            _install(folder)
            python = "/usr/bin/python3"
            host.env.update({"PYTHONPATH": str(folder / "site"), "PATH": f"{folder / 'site/bin'}:{_PATH}"})
        if name.endswith("user"):
            user = stack.enter_context(ordinary_user("buildkit-bench"))
            before = _give(host, user)
        if "13" in name:
            before = (*stack.enter_context(inside(ensure_root(*_MORE), StorageHost(folder))).before, *before)
            beside = ("sh", "-c", _DOCKERD, str(folder)) if name.endswith("root") else ()
        elif before:
            python = stack.enter_context(python_of(user))
            host.env.pop("PYTHONPATH")
            before = ("unshare", "--mount", "sh", "-c", TUNNEL, str(folder / "tun"), *before)
        session = ("env", f"--chdir={folder / 'project'}", python, "-P", "-m", "buildkit")
        for words in (("doctor", "--enable-store"), ("build", "development")):  # as ci/bootstrap does
            subprocess.run((*before, *session, *words), env=host.env, check=True)
        argv = (*_ALONE, *before, *beside, *session, "bench-dev", "--write", str(folder / "table.md"), *options)
        try:
            subprocess.run(argv, env=host.env, check=True)
        finally:
            shutil.copy(folder / "table.md", document)


if __name__ == "__main__":
    where, chosen = Path(sys.argv[1]), [word for word in sys.argv[2:] if word in HOSTS]
    for one in chosen or HOSTS:
        bench(one, where, [word for word in sys.argv[2:] if word not in HOSTS])
