"""Contract: listing and removing images and containers of local storage with the real buildah and skopeo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.errors import ToolError
from buildkit.tools import storage
from buildkit.tools.buildah import commit, remove_image, working_container
from buildkit.tools.process import Command, run
from tests.tools.tinyimage import import_tiny_image

pytestmark = pytest.mark.tools

REF = f"localhost/buildkit-test/storage:{os.getpid()}"


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[str]:
    """An image; its id."""
    import_tiny_image(tmp_path, REF)
    yield next(image.id for image in storage.list_images() if REF in image.names)
    for ref in (REF, f"{REF}-more", f"{REF}-step"):
        remove_image(ref)


def known(image: str) -> bool:
    return image in {one.id for one in storage.list_images()}


def names(image: str) -> set[str]:
    return {name for one in storage.list_images() if one.id == image for name in one.names}


def test_images_are_listed_with_names_sizes_and_configs(tiny: str) -> None:
    (image,) = (one for one in storage.list_images() if one.id == tiny)
    assert image.names == (REF,)
    assert 1_000_000 < image.size < 50_000_000
    config = storage.find_config(tiny)
    assert config is not None
    assert config["config"] == {"Env": ["PATH=/usr/bin"], "Healthcheck": {"Test": ["CMD", "true"]}}
    assert storage.find_config("0" * 64) is None


def test_committed_step_config_names_its_base(tiny: str, tmp_path: Path) -> None:
    with working_container(REF) as box:
        commit(box, f"{REF}-step", tmp_path)
    image = next(one.id for one in storage.list_images() if f"{REF}-step" in one.names)
    config = storage.find_config(image)
    assert config is not None
    assert config["history"][-1]["comment"] == f"FROM {REF}"
    assert config["created"] == "1970-01-01T00:00:00Z"


def test_containers_are_listed_and_keep_their_image(tiny: str) -> None:
    with working_container(REF) as box:
        found = {one.name: one for one in storage.list_containers()}
        assert (found[box.name].image, found[box.name].working) == (tiny, True)
        assert not storage.remove_image(tiny)
        assert not storage.remove_name(REF)
        assert known(tiny)
    assert box.name not in {one.name for one in storage.list_containers()}


def test_removing_one_of_two_names_keeps_the_image(tiny: str) -> None:
    run(Command(argv=("buildah", "tag", REF, f"{REF}-more")))
    assert storage.remove_name(REF)
    assert names(tiny) == {f"{REF}-more"}


def test_removing_an_image_keeps_images_built_on_it(tiny: str, tmp_path: Path) -> None:
    with working_container(REF) as box:
        run(Command(argv=("buildah", "config", "--env", "A=1", "--", box.name)))
        commit(box, f"{REF}-step", tmp_path)
    assert storage.remove_image(tiny)
    assert not known(tiny)
    assert not storage.remove_image(tiny)
    with working_container(f"{REF}-step") as box:
        mounted = run(Command(argv=("buildah", "mount", "--", box.name))).text if os.geteuid() == 0 else ""
        assert os.geteuid() != 0 or (Path(mounted) / "usr/lib/ref").read_text() == REF


@pytest.mark.parametrize(
    ("text", "size"), [("5.15 MB", 5_150_000), ("812 B", 812), ("1.2 GB", 1_200_000_000), ("3 kB", 3000), ("many", 0)]
)
def test_buildah_sizes_are_parsed(text: str, size: int) -> None:
    assert storage._parse_size(text) == size


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the errors of `buildah`, a line for each time; then it lists nothing."""
    program, said = tmp_path / "buildah", tmp_path / "said"
    program.write_text(
        f"#!/bin/sh\n[ -s {said} ] || {{ echo '[]'; exit; }}\nhead -n 1 {said} >&2\nsed -i 1d {said}\nexit 125\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return said


def test_listing_is_asked_again_if_what_it_lists_is_removed_meanwhile(failing: Path) -> None:
    for listing in (storage.list_images, storage.list_containers):
        failing.write_text("Error: image not known\nError: reading the image's size: layer not known\n")
        assert listing() == ()
        assert failing.read_text() == ""


def test_listing_that_fails_for_another_reason_or_each_time_is_an_error(failing: Path) -> None:
    failing.write_text("Error: no space left\nError: another\n")
    with pytest.raises(ToolError, match="listing the images of local storage"):
        storage.list_images()
    assert failing.read_text() == "Error: another\n"
    failing.write_text("Error: image not known\n" * 9)
    with pytest.raises(ToolError, match="listing the images of local storage"):
        storage.list_images()
    assert failing.read_text() == "Error: image not known\n" * 4
