"""``watch`` with a compose file and containers that plain podman made."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.tinyproject import Tiny, read_event

pytestmark = pytest.mark.tools
SERVICE = "trap 'exit 0' TERM\nwhile :; do sleep 0.1; done\n"
COMPOSE = """
name: shop
services:
  web:
    image: localhost/shop-web
    build: .
    develop:
      watch:
        - { action: sync, path: web, target: /srv/web, ignore: ["*.tmp"], initial_sync: true }
        - { action: sync+restart, path: web.conf, target: /srv/web.conf }
        - { action: rebuild, path: Containerfile }
  cache: { image: localhost/shop-web }
"""


class Watched:
    """A running session, and what it has said."""

    def __init__(self, tiny: Tiny, child: subprocess.Popen[str]) -> None:
        self.tiny = tiny
        self.child = child

    def next(self, event: str = "reacted") -> dict[str, Any]:
        return read_event(self.child, event)

    def read(self, path: str) -> str:
        return self.tiny.tool("podman", "exec", "shop_web_1", "cat", path)

    def id(self, name: str) -> str:
        return self.tiny.tool("podman", "container", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", name)


@pytest.fixture
def shop(tiny: Tiny) -> Iterator[Tiny]:
    found = re.search(r'image = "(.*)"', (tiny.project / "stages/base/stage.toml").read_text())
    assert found
    tiny.write("compose.yaml", COMPOSE)
    tiny.write("web/words.txt", "one\n")
    tiny.write("web.conf", "conf one\n")
    tiny.write("Containerfile", f"FROM {found[1]}\nCOPY web /srv/web\nLABEL edition=one\n")
    tiny.write("main.sh", SERVICE)
    tiny.tool("podman", "build", "--quiet", "--tag=localhost/shop-web", str(tiny.project))
    for service in ("web", "cache"):
        labels = {"project": "shop", "service": service}
        options = [f"--label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        if service == "web":
            options += ["--read-only=false", f"--volume={tiny.project}/main.sh:/main.sh:ro"]
        tiny.tool(
            "podman", "run", "--detach", f"--name=shop_{service}_1", "--network=none", "--user=0", *options,
            "localhost/shop-web", "sh", "-c", SERVICE,
        )  # fmt: skip
    yield tiny
    tiny.tool("podman", "rm", "--force", "--all", "--time=0")


@contextmanager
def watching(tiny: Tiny) -> Iterator[Watched]:
    """Run the session until the block ends, by Ctrl-C; its end is its success."""
    session = (tiny.python, "-m", "buildkit", "watch", "--json", "compose.yaml")
    with subprocess.Popen(
        (*tiny.before, "env", f"--chdir={tiny.project}", *session), env=tiny.env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as child:  # fmt: skip
        try:
            watched = Watched(tiny, child)
            yield watched
        finally:
            os.killpg(child.pid, signal.SIGINT)
            _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")


def test_saved_files_reach_containers_by_the_rules_of_the_compose_file(shop: Tiny) -> None:
    shop.write("web/words.txt", "before\n")
    with watching(shop) as watched:
        assert watched.next()["files"] == ["web/words.txt"], "initial_sync"
        watched.next("watching")
        assert watched.read("/srv/web/words.txt") == "before\n"
        first, other = watched.id("shop_web_1"), watched.id("shop_cache_1")

        shop.write("web/draft.tmp", "")
        shop.write("web/new/deep.txt", "deep\n")
        (shop.project / "web/words.new").write_text("two\n")
        (shop.project / "web/words.new").rename(shop.project / "web/words.txt")  # as editors do
        seen = set()
        while not {"web/words.txt", "web/new/deep.txt"} <= seen:
            said = watched.next()
            seen |= set(said["files"])
        assert watched.read("/srv/web/words.txt") == "two\n"
        assert watched.read("/srv/web/new/deep.txt") == "deep\n"
        assert "web/draft.tmp" not in seen
        assert watched.id("shop_web_1") == first, "neither restarted nor made again"

        shop.write("web.conf", "conf two\n")
        said = watched.next()
        assert (said["action"], said["ok"]) == ("sync+restart", True), said
        assert watched.read("/srv/web.conf") == "conf two\n"
        assert watched.id("shop_web_1") != first, "restarted"

        shop.replace("Containerfile", "edition=one", "edition=two\nRUN exit 3")
        said = watched.next()
        assert (said["action"], said["ok"]) == ("rebuild", False), said
        assert watched.read("/srv/web.conf") == "conf two\n", "the old container goes on"

        shop.replace("Containerfile", "RUN exit 3", "")
        said = watched.next()
        assert (said["action"], said["ok"]) == ("rebuild", True), said
        label = '{{index .Config.Labels "edition"}}'
        assert shop.tool("podman", "container", "inspect", "--format", label, "shop_web_1") == "two\n"
        assert watched.read("/srv/web/words.txt") == "two\n", "the image was built from the files as they are"
        assert watched.id("shop_cache_1") == other, "no other service was touched"
    assert len(shop.tool("podman", "ps", "--quiet").split()) == 2, "Ctrl-C leaves them running"


def test_a_project_that_does_not_run_is_an_error_with_the_command_that_starts_it(tiny: Tiny) -> None:
    tiny.write("compose.yaml", COMPOSE)
    ended = tiny.run("watch", "--no-start")
    assert ended.code == 1, ended.text
    assert "web: no container runs of the project shop" in ended.text
    assert "up --detach --build web" in ended.text
