"""The image `redis`: data that lasts, a password out of a file, and nothing that helps an intruder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases.places import REDIS, Container, Image, Place, build_image, check_packages, keeping
from tests.reference.builds import audit
from tests.reference.engine import Podman

pytestmark = [pytest.mark.tools, pytest.mark.network]

PASSWORD = """a b'c"d\\e$f#"""  # everything that a configuration file, or a shell, would take apart


@pytest.fixture(scope="module")
def image(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build_image(podman, "redis", tmp_path_factory)


@pytest.fixture
def place(image: Image, podman: Podman, tmp_path: Path) -> Iterator[Place]:
    with keeping(podman, image.id, REDIS, tmp_path) as place:
        yield place


def ask(container: Container, *words: str, password: str | None = None) -> str:
    env = f"--env=REDISCLI_AUTH={container.password if password is None else password}"
    return container.podman("exec", env, container.name, "redis-cli", *words).strip()


def test_data_outlives_the_container_that_is_killed(place: Place) -> None:
    with place.running(PASSWORD) as first:
        assert ask(first, "set", "key", "value") == "OK"
        assert ask(first, "waitaof", "1", "0", "0").splitlines() == ["1", "0"]  # it is on the disk
        place.podman("kill", "--signal=KILL", first.name)
    with place.running(PASSWORD) as second:
        assert ask(second, "get", "key") == "value"
        place.podman("stop", "--time=9", second.name)
        assert second.end() == 0
        assert "bye bye" in second.logs


def test_nobody_gets_in_without_the_password_of_the_secret(place: Place) -> None:
    with place.running(PASSWORD + "\n") as container:  # as editors end a file
        assert "NOAUTH" in ask(container, "get", "key", password="")
        assert "NOAUTH" in ask(container, "get", "key", password="wrong")
        assert ask(container, "get", "key", password=PASSWORD) == ""
        health = ("exec", container.name, "redis-cli", "--user", "health", "--pass", "none")
        assert "NOPERM" in place.podman(*health, "get", "key")
        shown = place.podman("top", container.name, "pid", "args") + place.podman(
            "container", "inspect", container.name
        )
        assert PASSWORD not in shown + container.logs
        assert len(place.podman("top", container.name, "pid").split()) == 2  # the heading, and Redis alone
        # one volume, one Redis
        with place.starting(PASSWORD) as other:
            assert other.end() == 2
            assert other.logs == "redis: another container uses this volume: end it first\n"


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (None, "redis: no password: mount the secret redis-password as /run/secrets/redis-password\n"),
        ("\n", "redis: /run/secrets/redis-password holds no password\n"),
    ],
)
def test_redis_without_a_password_says_so_and_ends(place: Place, secret: str | None, said: str) -> None:
    with place.starting(secret) as container:
        assert container.end() == 2
        assert container.logs == said


def test_nothing_can_be_written_besides_the_volume(place: Place) -> None:
    with place.running(PASSWORD) as container:
        argv = ("exec", container.name, "redirfd", "-w", "1")
        for path in ("/etc/file", "/usr/bin/file", "/var/lib/file"):
            place.podman(*argv, path, "printf", "x", accept=(111,))
        place.podman(*argv, "/var/lib/redis/file", "printf", "x")
        # Redis itself writes where it was told to, and nowhere else
        assert "ERR CONFIG SET failed" in ask(container, "config", "set", "dir", "/tmp")


def test_image_has_no_findings_and_says_what_is_in_it(image: Image, tmp_path: Path) -> None:
    _, found = audit(image.cache, "redis", "--running")  # with a password and a volume of its own
    assert found["parts"] == {"at rest": None, "running": None}
    # it has nothing to try writing with, and some hosts cannot close networks
    assert {finding["rule"] for finding in found["findings"]} <= {"not-tried", "way-out"}
    licences = check_packages(image, tmp_path)
    assert {"execline", "libc6"} < set(licences)
    assert "AGPLv3" in licences["redis-tools"]
