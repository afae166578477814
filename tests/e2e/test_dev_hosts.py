"""The development session on other hosts: by podman of Debian 13, and of ordinary users."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_compose_watch import watching
from tests.e2e.test_dev_session import developing, prepare
from tests.e2e.tinyproject import Tiny
from tests.imagestore.debian13 import ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.users import become, ordinary_user, python_of

pytestmark = [
    pytest.mark.tools,
    pytest.mark.network,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts another root and makes users"),
]
_REPOSITORY = Path(__file__).parents[2]
# podman's networks of ordinary users need it, and some hosts close it; a mount of its own opens it for these alone
TUNNEL = """set -e
[ -e "$0" ] || mknod -m 666 "$0" c 10 200
mount --bind "$0" /dev/net/tun
exec "$@"
"""


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    with ordinary_user("buildkit-dev") as account:
        yield account


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Debian 13's Python needs to run sessions."""
    folder = tmp_path_factory.mktemp("python") / "site"
    argv = ("pip", "install", "--quiet", "--link-mode=copy", "--python-version=3.13", f"--target={folder}")
    subprocess.run((sys.executable, "-m", "uv", *argv, str(_REPOSITORY)), check=True)
    return folder


@pytest.fixture
def named(tiny: Tiny) -> str:
    return prepare(tiny)


@pytest.fixture
def by_user(tiny: Tiny, named: str, user: pwd.struct_passwd) -> Iterator[Tiny]:
    """A project of an ordinary user, whose runtime folder is where systemd would make it."""
    runtime = Path("/run") / f"buildkit-{tiny.folder.name}"
    runtime.mkdir(mode=0o700)
    tiny.belong_to_user()
    tiny.env |= {"USER": user.pw_name, "LOGNAME": user.pw_name, "XDG_RUNTIME_DIR": str(runtime)}
    for folder in (tiny.folder, runtime):
        subprocess.run(("chown", "--recursive", f"{user.pw_uid}:{user.pw_gid}", str(folder)), check=True)
    tiny.before = become(user)
    yield tiny
    shutil.rmtree(runtime, ignore_errors=True)


def follow_a_save(tiny: Tiny, name: str) -> None:
    """Start, save, and end; the containers' files come from the checkout, and stay the developer's."""
    with developing(tiny, name) as running:
        assert {running.next("service")["state"] for _ in range(2)} == {"healthy", "running"}
        running.next("watching")
        assert running.answer() == "one\n"
        data = running.id("data")
        tiny.write("stages/app/app/words.txt", "two\n")
        said = running.next()
        assert (said["action"], said["ok"]) == ("restart", True), said
        assert running.answer() == "two\n"
        assert running.id("data") == data
        owner = tiny.project.stat().st_uid
        assert {path.lstat().st_uid for path in tiny.project.rglob("*")} == {owner}


def bring_up_and_down(tiny: Tiny, name: str) -> None:
    """Start the environment for good, and end it."""
    for options, containers in (((), [f"{name}-dev-app", f"{name}-dev-data"]), (("--down",), [])):
        session = (*tiny.before, "env", f"--chdir={tiny.project}", tiny.python, "-m", "buildkit")
        done = subprocess.run((*session, "up", "dev", *options), env=tiny.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert sorted(tiny.tool("podman", "ps", "--all", "--format", "{{.Names}}").split()) == containers
    assert name not in tiny.tool("podman", "network", "ls", "--format", "{{.Name}}")


def follow_a_compose_file(tiny: Tiny, name: str) -> None:
    """Copy a saved file into a container of a compose project."""
    rule = {"action": "sync", "path": "web", "target": "/srv/web"}
    web = {"image": f"localhost/{name}/base:latest", "build": ".", "develop": {"watch": [rule]}}
    tiny.write("compose.yaml", json.dumps({"name": "shop", "services": {"web": web}}))
    labels = [f"--label=com.docker.compose.{name}={value}" for name, value in (("project", "shop"), ("service", "web"))]
    words = ("--detach", "--name=shop_web_1", "--network=none", "--user=0", *labels, web["image"], "sleep", "1000")
    tiny.tool("podman", "run", *words)
    tiny.write("web/words.txt", "one\n")
    with watching(tiny) as watched:
        watched.next("watching")
        tiny.write("web/words.txt", "two\n")
        assert watched.next()["ok"]
        assert watched.read("/srv/web/words.txt") == "two\n"
    tiny.tool("podman", "rm", "--force", "--time=0", "shop_web_1")


def test_ordinary_user_develops(by_user: Tiny, named: str, user: pwd.struct_passwd) -> None:
    with python_of(user) as by_user.python:
        by_user.env.pop("PYTHONPATH", None)
        by_user.before = ("unshare", "--mount", "sh", "-c", TUNNEL, str(by_user.folder / "tun"), *by_user.before)
        follow_a_save(by_user, named)
        bring_up_and_down(by_user, named)
        follow_a_compose_file(by_user, named)


@pytest.mark.parametrize("who", ["root", "user"])
def test_debian_13_develops(request: pytest.FixtureRequest, tiny: Tiny, named: str, site: Path, who: str) -> None:
    if who == "user":
        request.getfixturevalue("by_user").env["XDG_RUNTIME_DIR"] = str(tiny.folder / "run")
    shutil.copytree(site, tiny.folder / "site")
    tiny.python = "/usr/bin/python3"
    tiny.env |= {"PYTHONPATH": str(tiny.folder / "site"), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    with inside(ensure_root(), StorageHost(tiny.folder)) as debian:
        tiny.before = (*debian.before, *tiny.before)
        follow_a_save(tiny, named)
