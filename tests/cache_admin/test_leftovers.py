"""Which images and containers gc removes from local storage, decided on values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from buildkit.cache_admin.stored_images import Leftovers, choose_leftovers, find_dead, is_candidate
from buildkit.oci.image import EPOCH
from buildkit.store.leases import Leases
from buildkit.tools.storage import StoredContainer, StoredImage

ROOT = "localhost/tiny/base:root-0123456789ab"
OTHER = "localhost/tiny/tools:whole-ba9876543210"
OURS = {"comment": "buildkit"}
STEP = {"comment": f"FROM {ROOT}"}


def image(name: str, *names: str) -> StoredImage:
    return StoredImage(id=name, names=names, size=1)


def config(*history: dict[str, str], title: str = "", created: str = EPOCH) -> dict[str, Any]:
    labels = {"org.opencontainers.image.title": title} if title else None
    return {"created": created, "config": {"Labels": labels}, "history": list(history)}


def chosen(
    one: StoredImage, its_config: dict[str, Any] | None, *, needed: tuple[str, ...] = (), used: bool = False
) -> Leftovers:
    containers = [StoredContainer(name="web", image=one.id, working=False)] if used else []
    configs = {one.id: its_config} if its_config else {}
    return choose_leftovers([one], containers, configs, "tiny", needed)


APP = config(OURS, OURS, title="tiny/app")
GOES = [
    pytest.param(image("x", ROOT), config(OURS), id="a root that no step needs"),
    pytest.param(image("x", OTHER), config(OURS, OURS), id="a whole stage that nothing is compiled in"),
    pytest.param(image("x", ROOT, OTHER), config(OURS), id="both at once"),
    pytest.param(image("x", ROOT), config(OURS, STEP), id="a step that was committed"),
    pytest.param(image("x"), config(OURS, STEP), id="the same without a name"),
    pytest.param(image("x"), APP, id="an earlier image of this project"),
]
STAYS = [
    pytest.param(image("x", "localhost/tiny/app:latest"), APP, id="an image that has its name"),
    pytest.param(image("x", "localhost/tiny/app:root"), APP, id="a name that only looks like ours"),
    pytest.param(image("x", ROOT.replace("tiny", "other")), config(OURS), id="another project's root"),
    pytest.param(image("x", ROOT), config({"comment": "by hand"}), id="our name on an image that is not ours"),
    pytest.param(image("x", ROOT), config(), id="our name, no history"),
    pytest.param(image("x", ROOT), None, id="gone meanwhile"),
    pytest.param(image("x"), config(OURS, title="other/app"), id="an earlier image of another project"),
    pytest.param(image("x"), config(OURS), id="composed, and of whichever project"),
    pytest.param(image("x"), config({"comment": "mine"}, title="tiny/app"), id="somebody's that says it is ours"),
    pytest.param(image("x"), config({"comment": "buildkit.dockerfile.v0"}, title="tiny/app"), id="of another builder"),
    pytest.param(image("x"), config(OURS, {"comment": ""}, title="tiny/app"), id="somebody's on top of ours"),
    pytest.param(image("x"), config(OURS, {"comment": "FROM localhost/tiny/app:latest"}), id="committed by hand"),
    pytest.param(image("x"), config(OURS, STEP, created="2026-01-01T00:00:00Z"), id="committed with its time"),
    pytest.param(image("x"), config(STEP), id="a step on nothing of ours"),
    pytest.param(image("x"), {"created": EPOCH, "history": None, "config": None}, id="an empty one"),
]


@pytest.mark.parametrize(("one", "its_config"), GOES)
def test_leftover_images_without_use_are_removed(one: StoredImage, its_config: dict[str, Any]) -> None:
    assert is_candidate(one, "tiny", frozenset())
    assert chosen(one, its_config) == Leftovers(images=(one,))


@pytest.mark.parametrize(("one", "its_config"), STAYS)
def test_named_or_foreign_images_stay(one: StoredImage, its_config: dict[str, Any]) -> None:
    assert chosen(one, its_config) == Leftovers()


@pytest.mark.parametrize(("one", "its_config"), GOES)
def test_image_that_a_container_uses_stays(one: StoredImage, its_config: dict[str, Any]) -> None:
    assert chosen(one, its_config, used=True) == Leftovers()


def test_needed_base_image_stays() -> None:
    assert not is_candidate(image("x", ROOT), "tiny", frozenset([ROOT]))
    assert chosen(image("x", ROOT), config(OURS), needed=(ROOT,)) == Leftovers()
    assert chosen(image("x", ROOT, OTHER), config(OURS), needed=(ROOT,)) == Leftovers(names=(OTHER,))


def test_image_with_a_user_name_loses_only_generated_names() -> None:
    assert chosen(image("x", ROOT, "localhost/mine:1"), config(OURS)) == Leftovers(names=(ROOT,))


def test_dead_container_does_not_keep_its_image() -> None:
    one = image("x", ROOT)
    box = StoredContainer(name="buildkit-1-0123456789ab", image="x", working=True)
    found = choose_leftovers([one], [box], {"x": config(OURS)}, "tiny", (), frozenset([box.name]))
    assert found == Leftovers(containers=(box.name,), images=(one,))


def test_project_name_with_dots_is_matched_literally() -> None:
    one = image("x", "localhost/a-b/base:root-0123456789ab")
    assert choose_leftovers([one], [], {"x": config(OURS)}, "a.b", ()) == Leftovers()


def test_containers_without_lease_and_process_are_dead(tmp_path: Path) -> None:
    leases = Leases(tmp_path / "boxes")
    unused_pid = 4_194_305  # more than a process number can be
    mine, gone, forgotten, far = (
        f"buildkit-{number}-{letter * 12}"
        for number, letter in (
            (os.getpid(), "a"),
            (os.getpid(), "b"),
            (unused_pid, "c"),
            (unused_pid * unused_pid * unused_pid, "d"),
        )
    )
    inherited = f"buildkit-{unused_pid}-eeeeeeeeeeee"
    with leases.hold(mine), leases.hold(inherited):
        with leases.hold(gone):
            pass  # its note outlives it, as that of a killed build
        assert find_dead([mine, gone, forgotten, far, inherited], leases) == {gone, forgotten, far}
        assert {path.name for path in leases.folder.iterdir()} == {mine, gone, inherited}, "looking strikes nothing off"


def test_containers_are_judged_by_process_without_leases(tmp_path: Path) -> None:
    alive = f"buildkit-{os.getpid()}-0123456789ab"
    assert find_dead([alive], Leases(tmp_path / "boxes")) == frozenset()
