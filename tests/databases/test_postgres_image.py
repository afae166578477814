"""The image `postgres`: a first start that may be interrupted, data that lasts, a password out of a file."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases.places import POSTGRES, Container, Image, Place, build_image, check_packages, keeping
from tests.reference.builds import audit
from tests.reference.engine import Podman

pytestmark = [pytest.mark.tools, pytest.mark.network]

PASSWORD = """a b'c"d\\e$f$$g"""


@pytest.fixture(scope="module")
def image(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build_image(podman, "postgres", tmp_path_factory)


@pytest.fixture
def place(image: Image, podman: Podman, tmp_path: Path) -> Iterator[Place]:
    with keeping(podman, image.id, POSTGRES, tmp_path) as place:
        yield place


def ask(container: Container, sql: str, *, password: str | None = None, user: str = "app") -> str:
    """What psql answers over the network, or its error."""
    env = f"--env=PGPASSWORD={container.password if password is None else password}"
    argv = ("exec", env, container.name, "psql", "-h127.0.0.1", f"-U{user}", "-dapp", "-Atc", sql)
    return container.podman(*argv, accept=(0, 1, 2)).strip()


def fill(place: Place, path: str, content: bytes) -> None:
    """Put a file into the volume, which belongs to the image's user."""
    packed = place.folder / "volume.tar"
    with tarfile.open(packed, "w") as tar:
        for name in (*reversed(Path(path).parents), Path(path)):
            entry = tarfile.TarInfo(str(name))
            entry.uid = entry.gid = place.kind.uid
            last = name == Path(path)
            entry.type, entry.mode, entry.size = (
                (tarfile.REGTYPE if last else tarfile.DIRTYPE),
                0o755,
                len(content) * last,
            )
            tar.addfile(entry, io.BytesIO(content) if last else None)
    place.podman("volume", "import", place.volume, str(packed))


def list_files(place: Place) -> dict[str, bytes]:
    """What is in the volume."""
    packed = place.folder / "volume.tar"
    place.podman("volume", "export", "--output", str(packed), place.volume)
    with tarfile.open(packed) as tar:
        files = {entry.name.removeprefix("./"): tar.extractfile(entry) for entry in tar if entry.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_data_outlives_an_interrupted_first_start_and_the_container_that_is_killed(place: Place) -> None:
    with place.starting(PASSWORD) as early:
        early.wait_for_log("running bootstrap script")
        place.podman("kill", "--signal=KILL", early.name)
        assert "ready to accept connections" not in early.logs
    with place.running(PASSWORD) as first:
        assert "running bootstrap script" in first.logs  # nothing of the interrupted start was believed
        assert ask(first, "create table kept (n int); insert into kept values (1)") == "CREATE TABLE\nINSERT 0 1"
        place.podman("kill", "--signal=KILL", first.name)
    with place.running("another") as second:  # the secret was replaced
        assert "recovery" in second.logs
        assert ask(second, "select n from kept") == "1"
        assert ask(second, "select 1", password=PASSWORD) == ""
        place.podman("stop", "--time=9", second.name)
        assert second.end() == 0
        assert "database system is shut down" in second.logs


def test_nobody_gets_in_without_the_password_of_the_secret(place: Place) -> None:
    with place.running(PASSWORD + "\n") as container:
        assert ask(container, "select current_user") == "app"
        assert ask(container, "select 1", password="") == ""
        assert ask(container, "select 1", password="wrong") == ""
        assert ask(container, "select 1", user="postgres") == ""
        # programs are for the administrator to start, and the administrator is inside
        assert ask(container, "copy (select 1) to program 'true'") == ""
        inside = (
            "exec",
            container.name,
            "psql",
            "-Upostgres",
            "-Atc",
            "select rolsuper from pg_roles where rolname='app'",
        )
        assert place.podman(*inside).strip() == "f"
        shown = place.podman("top", container.name, "pid", "args") + place.podman(
            "container", "inspect", container.name
        )
        assert PASSWORD not in shown + container.logs
        # one volume, one PostgreSQL
        with place.starting(PASSWORD) as other:
            assert other.end() == 2
            assert other.logs == "postgres: another container uses this volume: end it first\n"


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (None, "no password: mount the secret postgres-password as /run/secrets/postgres-password"),
        ("\n", "no password: mount the secret postgres-password as /run/secrets/postgres-password"),
        ("a$app$b", "the password in /run/secrets/postgres-password holds $app$, which ends it in SQL"),
    ],
)
def test_postgres_without_a_password_says_so_and_ends(place: Place, secret: str | None, said: str) -> None:
    with place.starting(secret) as container:
        assert container.end() == 2
        assert container.logs == f"postgres: {said}\n"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "data/PG_VERSION",
            "the volume holds a database of PostgreSQL 16, and this is 17: use an image of 16, or restore a dump",
        ),
        (
            "18/docker/PG_VERSION",
            "the volume holds a database in /var/lib/postgresql/18/docker, where this image has none: use another",
        ),
        (
            "PG_VERSION",
            "the volume holds a database in /var/lib/postgresql, where this image has none: use another",
        ),
    ],
)
def test_foreign_data_is_left_alone(place: Place, path: str, said: str) -> None:
    fill(place, path, b"16\n")
    with place.starting(PASSWORD) as container:
        assert container.end() == 2
        assert container.logs == f"postgres: {said}\n"
    assert list_files(place) == {path: b"16\n", "lock": b""}


def test_nothing_can_be_written_besides_the_volume(place: Place) -> None:
    with place.running(PASSWORD) as container:
        for path in ("/etc/file", "/usr/bin/file", "/var/lib/file"):
            place.podman("exec", container.name, "sh", "-c", f": > {path}", accept=(2,))
        place.podman("exec", container.name, "sh", "-c", ": > /var/lib/postgresql/file")


def test_image_has_a_shell_for_the_first_start_and_no_other_finding(image: Image, tmp_path: Path) -> None:
    _, found = audit(image.cache, "postgres", "--fail-on", "note")
    assert [finding["rule"] for finding in found["findings"]] == ["shell"]
    licences = check_packages(image, tmp_path)
    assert {"dash", "libc6"} < set(licences)
    assert "PostgreSQL" in licences["postgresql-17"]
