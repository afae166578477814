"""`kill -9`, Ctrl-C and SIGTERM at any moment of a build: the next one makes the same image, and nothing is left."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.e2e.survival import (
    Doomed,
    Moment,
    acting,
    copy_wheels,
    count_acts,
    kill_process,
    left_behind,
    make_rng,
    unsound,
    unsound_so_far,
    wipe,
)
from tests.e2e.tinyproject import SessionResult, Tiny
from tests.waiting import wait_until

pytestmark = pytest.mark.tools

_KILLS = 100
_IN_A_ROW = 6
_STAGE = "tools"
_STEP = """summary = "app on a root that a step extends"
from = "app"

[[run]]
name = "write"
script = "mkdir /opt/tools; cat /mnt/recipe.txt > /opt/tools/copy"

[[run.mount]]
source = "stages/tools/files"
target = "/mnt"
"""
_MADE = "of the recipe\n"
_FILES = (
    "cache/ledger.sqlite-wal",
    "cache/files/*/.*.part",
    "cache/files/*/*.whl",
    "cache/sha256/*",
    "cache/tmp/*",
    "cache/tmp/dir-*/storage*",  # skopeo imports, or buildah commits
    "cache/tmp/dir-*/oci-layout",  # skopeo exports
    "cache/boxes/*",
    "graph/overlay-containers/*/userdata",  # buildah makes a container
    "graph/overlay/*/diff/opt/tools/copy",  # a step runs in it
    "graph/overlay-images/*/manifest",  # an image has arrived
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """An undisturbed build: its result, seconds and acts, and the acts of a no-op build."""

    ended: SessionResult
    seconds: float
    acts: int
    least: int


@pytest.fixture
def project(make_tiny: Callable[[], Tiny]) -> Callable[[], Tiny]:
    def make() -> Tiny:
        tiny = make_tiny()
        tiny.write("stages/tools/stage.toml", _STEP)
        return tiny

    return make


def leave_alone(tiny: Tiny) -> Undisturbed:
    ended: list[SessionResult] = []
    began = time.monotonic()
    acts = count_acts(tiny, lambda **env: ended.append(tiny.build(_STAGE, **env)))
    seconds = time.monotonic() - began
    least = count_acts(tiny, lambda **env: tiny.build(_STAGE, **env))
    wipe(tiny)
    return Undisturbed(ended=ended[0], seconds=seconds, acts=acts, least=least)


def choose(rng: random.Random, known: Undisturbed, left: float) -> Moment:
    """Return a moment in the remaining part of a build (1: all of it), by time or by event."""
    at = rng.uniform(0, left)
    if rng.random() < 0.5:
        return Moment(seconds=0.15 + at * known.seconds)
    match rng.randrange(4):
        case 0:
            return Moment(lines=1 + round(at * 16))
        case 1:
            return Moment(file=rng.choice(_FILES))
        case _:
            return Moment(acts=known.least + round(at * (known.acts - known.least)))


def await_children(doomed: Doomed) -> None:
    wait_until(lambda: not doomed.living())


def kill_often(tiny: Tiny, known: Undisturbed, rng: random.Random, *, whole: bool) -> None:
    """Kill a build with an empty cache several times in a row, then finish it, check the result, and wipe.

    After each kill no partial file may have a final name or a row in the ledger.
    """
    killed = 0
    while killed < _KILLS // 2:
        doomed, left = Doomed(tiny, _STAGE), 1.0
        for _ in range(_IN_A_ROW):
            moment = choose(rng, known, left)
            if not doomed.kill(moment, whole=whole):
                break
            killed += 1
            assert unsound_so_far(tiny) == [], f"killed after {moment}"
            left *= rng.uniform(0.5, 1)  # roughly: finished work stays finished
        ended = tiny.build(_STAGE)
        if not whole:  # children may run on, and create what the next build removes
            await_children(doomed)
            tiny.build(_STAGE)
        look_at(tiny, ended, known.ended)
        wipe(tiny)


def look_at(tiny: Tiny, ended: SessionResult, undisturbed: SessionResult) -> None:
    """Check a build after a killed one: the same image, and nothing else."""
    assert ended.report["digest"] == undisturbed.report["digest"], ended.text
    assert ended.digests() == undisturbed.digests()
    assert left_behind(tiny) == []
    assert unsound(tiny) == []
    verified = tiny.run("cache", "verify")
    assert verified.code == 0, verified.text
    assert tiny.run_image(_STAGE, "cat", "/opt/tools/copy") == _MADE
    assert f"localhost/tiny/tools@{undisturbed.report['digest']}" in tiny.inspect(_STAGE)["RepoDigests"]


def test_build_killed_at_any_moment_is_completed_by_the_next(project: Callable[[], Tiny]) -> None:
    """Half of the builds die with all children; otherwise buildah, skopeo and programs in containers live on.

    The first half copy wheels, the others use them where they are.
    """
    known = leave_alone(project())
    copying = project()
    copy_wheels(copying)
    with ThreadPoolExecutor(2) as pool:
        lanes = [
            pool.submit(kill_often, tiny, known, make_rng(f"whole={whole}"), whole=whole)
            for tiny, whole in ((copying, True), (project(), False))
        ]
        for lane in lanes:
            lane.result()


def test_buildah_that_outlives_a_killed_build_may_still_create_its_container(project: Callable[[], Tiny]) -> None:
    tiny = project()
    tiny.build("app")
    slow = tiny.folder / "slow"
    slow.mkdir()
    waiting = f"{{ touch {slow}/asked; while [ ! -e {slow}/go ]; do sleep 0.05; done; }}"
    (slow / "buildah").write_text(f'#!/bin/sh\n[ "$1" = from ] && {waiting}\nexec {shutil.which("buildah")} "$@"\n')
    (slow / "buildah").chmod(0o755)
    tiny.env["PATH"] = f"{slow}:{tiny.env['PATH']}"
    doomed = Doomed(tiny, _STAGE)
    assert doomed.kill(Moment(file="slow/asked"), whole=False)
    tiny.build("app")
    assert doomed.living(), "it should be about to make a container"
    assert len(list(tiny.cache.glob("boxes/*"))) == 1
    (slow / "go").touch()
    await_children(doomed)
    assert len(tiny.containers()) == 1
    tiny.build("app")
    assert left_behind(tiny) == []


@pytest.mark.parametrize("whole", [True, False])
def test_step_that_outlives_a_killed_build_does_not_hinder_the_next(project: Callable[[], Tiny], whole: bool) -> None:
    tiny = project()
    tiny.replace("stages/tools/stage.toml", 'copy"', 'copy; sleep 30"')
    doomed = Doomed(tiny, _STAGE)
    assert doomed.kill(Moment(file="graph/overlay/*/diff/opt/tools/copy"), whole=whole)
    assert len(tiny.containers()) == 1
    tiny.replace("stages/tools/stage.toml", "sleep 30", "sleep 0")
    tiny.build(_STAGE)
    assert left_behind(tiny) == []
    assert tiny.run_image(_STAGE, "cat", "/opt/tools/copy") == _MADE
    wait_until(lambda: not [pid for pid in doomed.living() if kill_process(pid)])


def test_temporary_files_of_skopeo_and_buildah_are_swept(project: Callable[[], Tiny]) -> None:
    """Each kill would leave files as large as the image in /var/tmp."""
    tiny = project()
    (tiny.project / "models/greeter/large.bin").write_bytes(random.Random(3).randbytes(40 << 20))
    tiny.lock()
    doomed = Doomed(tiny, "models")
    assert doomed.kill(Moment(file="cache/tmp/dir-*/storage*/1"), whole=True)
    assert list(tiny.cache.glob("tmp/dir-*/storage*/*")) != []
    assert tiny.build("models").built() == {}
    assert left_behind(tiny) == []
    tiny.build(_STAGE)
    tiny.replace("stages/tools/stage.toml", "cat", "for n in 1 2 3 4 5 6; do cat /usr/bin/*; done > /opt/large; cat")
    doomed = Doomed(tiny, _STAGE)
    assert doomed.kill(Moment(file="cache/tmp/dir-*/storage*/1"), whole=True), "buildah commits into its own folder"
    assert tiny.containers() != []
    tiny.build(_STAGE)
    assert left_behind(tiny) == []


def test_build_stopped_by_a_signal_at_any_moment_is_completed_by_the_next(project: Callable[[], Tiny]) -> None:
    """By Ctrl-C or SIGTERM; the next build removes what a stopped one had no time to remove."""
    tiny, rng = project(), make_rng("stops")
    first: list[SessionResult] = []
    ours = {"from": "buildkit.build.pipeline"}  # before, it is Nox's and Python's to stop
    acts = count_acts(tiny, lambda **env: first.append(tiny.build(_STAGE, **env)), **ours)
    for number in range(9):
        wipe(tiny)
        moment = {"at": rng.randint(1, acts), "signal": rng.choice(["INT", "TERM"])}
        print(moment)
        ended = tiny.run(f"build-{_STAGE}", **acting(tiny, **moment, **ours))
        assert "Traceback" not in ended.text
        assert ended.code in (130, 0), ended.text  # it may end before it is noticed
        assert ended.code == 0 or "interrupted" in ended.text.splitlines()[-1]
        if number % 3 == 2:
            look_at(tiny, tiny.build(_STAGE), first[0])


def test_killed_lock_session_leaves_every_lock_whole(tiny: Tiny) -> None:
    rng = make_rng("locks")
    folder = tiny.project / "requirements"
    old = {path.name: path.read_text() for path in folder.iterdir()}
    tiny.replace("requirements/app.in", "alpha==1.0", "alpha==1.1")
    (tiny.project / "models/greeter/weights.txt").write_text("other weights")
    inputs = {path.name: path.read_text() for path in folder.iterdir()}
    acts = count_acts(tiny, lambda **env: tiny.run("lock", **env))
    new = {path.name: path.read_text() for path in folder.iterdir()}
    assert {name for name in old if old[name] != new[name]} == {"app.in", "app.txt", "app.wheels.toml", "models.lock"}
    for at in rng.sample(range(max(acts - 12, 1), acts + 1), 5):  # it writes at the end
        for name in old:
            (folder / name).write_text({**old, "app.in": inputs["app.in"]}[name])
        assert tiny.run("lock", **acting(tiny, at=at)).code == -9
        for name, text in new.items():
            assert (folder / name).read_text() in (old[name], text), f"{name} at {at}"
        tiny.lock()
        assert {path.name: path.read_text() for path in folder.iterdir() if path.name in new} == new
