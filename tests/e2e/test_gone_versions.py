"""The Debian archive no longer has what the locks name: the build takes what it has now and says so, or fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.aptarchive import AptArchive, serve_archive
from tests.e2e.conftest import short_folder
from tests.e2e.tinyproject import Tiny, one_error

pytestmark = pytest.mark.tools
_FILES = {
    "pyproject.toml": '[tool.buildkit]\nname = "tiny"\nbytecode = false\n',
    "requirements/base.apt": "hello\nsteady\n",
    "stages/base/stage.toml": (
        'summary = "made-up packages"\nships = true\n'
        '[root]\nsuite = "trixie"\nvariant = "extract"\npackages = "requirements/base.apt"\n'
    ),
}
_LOCK = "requirements/base.apt.lock"
_COMMAND = "nox -s lock -- --upgrade-apt"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[AptArchive]:
    with serve_archive(tmp_path / "archive") as archive:
        archive.publish({"hello": "1.0", "steady": "5"})
        yield archive


@pytest.fixture
def make(archive: AptArchive, registry: str) -> Iterator[Callable[[], Tiny]]:
    """Make projects whose locks name hello 1.0."""
    made: list[Tiny] = []

    def make_project() -> Tiny:
        folder = short_folder()
        tiny = Tiny(folder, registry=registry)
        made.append(tiny)
        archive.put_first(folder / "bin", tiny.env)
        for path, text in _FILES.items():
            tiny.write(path, text)
        if len(made) > 1:
            tiny.write(_LOCK, (made[0].project / _LOCK).read_text())
        else:
            tiny.lock()
        return tiny

    yield make_project
    for tiny in made:
        tiny.remove()


def test_build_takes_what_the_archive_has_and_names_the_command_that_refreshes_the_lock(
    make: Callable[[], Tiny], archive: AptArchive
) -> None:
    tiny = make()
    locked = (tiny.project / _LOCK).read_text()
    archive.publish({"hello": "1.1", "steady": "5"})
    built = tiny.build("base")
    warnings = [line for line in built.text.splitlines() if line.startswith(" warning ")]
    assert [line.removeprefix(" warning  ") for line in warnings] == [
        "the archive no longer has hello=1.0 in trixie",
        f"not what {_LOCK} names, but what Debian has now: hello 1.0 → 1.1",
        f"refresh the locks: {_COMMAND}",
        f"not built from the locks: Debian has other versions now; refresh the locks: {_COMMAND}",
    ]
    assert (tiny.project / _LOCK).read_text() == locked
    assert built.report is not None
    key = built.report["layers"][0]["key"]
    locked_key = json.loads(tiny.run("plan", "base", "--json").text)["layers"][0]["key"]
    assert locked_key != key, "what was taken has a key of its own"

    again = tiny.build("base")  # the lock is as old as before, and what was taken is known
    assert again.report is not None
    assert (again.report["layers"][0]["key"], again.built()) == (key, {})
    assert "not built from the locks" in again.text

    refreshed = tiny.run("lock", "--upgrade-apt")
    assert f"{_LOCK}: hello 1.0 → 1.1" in refreshed.text
    last = tiny.build("base", "--frozen")
    assert last.report is not None
    assert (last.report["layers"][0]["key"], last.built()) == (key, {})
    assert "nothing changed" in last.text
    assert "warning" not in last.text


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("--frozen",), {}),
        ((), {"CI": "true"}),
        (("--push", "{registry}/gone/base:1", "--attest"), {}),
    ],
    ids=("frozen", "CI", "attested"),
)
def test_build_that_must_keep_to_its_locks_fails(
    arguments: tuple[str, ...], env: dict[str, str], make: Callable[[], Tiny], archive: AptArchive, registry: str
) -> None:
    tiny = make()
    archive.publish({"hello": "1.1", "steady": "5"})
    ended = tiny.run("build-base", *(word.format(registry=registry) for word in arguments), **env)
    text = one_error(ended, 1)
    assert "the archive no longer has hello=1.0 in trixie; it has now: hello 1.0 → 1.1" in text
    assert _COMMAND in text
    assert "`snapshot` in [root]" in text
    assert ended.report is None
    assert tiny.rows("layers") == []


def test_remote_cache_has_nothing_under_the_key_of_the_locked_versions(
    make: Callable[[], Tiny], archive: AptArchive, registry: str
) -> None:
    writer, reader = make(), make()
    repository = f"{registry}/gone/cache"
    archive.publish({"hello": "1.1", "steady": "5"})
    key = writer.build("base", "--cache-write", repository).report["layers"][0]["key"]  # type: ignore[index]
    text = one_error(reader.run("build-base", "--cache", repository, "--frozen"), 1)
    assert "no longer has hello=1.0" in text
    reader.lock("--upgrade-apt")
    shared = reader.build("base", "--cache", repository, "--frozen")
    assert shared.report is not None
    assert [(layer["key"], layer["source"]) for layer in shared.report["layers"]] == [(key, "shared")]


def test_archive_that_is_gone_itself_is_no_reason_to_take_other_versions(
    make: Callable[[], Tiny], archive: AptArchive
) -> None:
    tiny = make()
    program = tiny.folder / "bin/mmdebstrap"
    program.write_text(program.read_text().replace(archive.url, "http://127.0.0.1:9/"))
    text = one_error(tiny.run("build-base"), 1)
    assert "could not be reached" in text
    assert _COMMAND not in text
