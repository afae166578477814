"""Invalid definitions: one message with place and hint, exit code 2, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import add_wheel, new_tiny
from tests.e2e.tinyproject import Tiny, one_error
from tests.layers.wheelmaker import make_wheel

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def built(template: Path, registry: str, links: Path) -> Iterator[Tiny]:
    """A tiny project that is built, once for all tests."""
    tiny = new_tiny(template, registry, links)
    tiny.build("app")
    yield tiny
    tiny.remove()


@pytest.fixture
def untouched(built: Tiny) -> Iterator[Tiny]:
    """The built project; a test that changes its files must leave cache and storage unchanged."""
    before = built.snapshot()
    yield built
    assert built.snapshot() == before
    assert built.left_over() == []
    built.git("checkout", "--quiet", ".")
    built.git("clean", "--quiet", "-fd")


def test_wrong_keys_and_types_of_all_stages_are_reported_together(untouched: Tiny) -> None:
    untouched.replace("stages/app/stage.toml", 'from = "base"', 'form = "base"')
    untouched.replace("stages/app/stage.toml", "ships = true", 'ships = "yes"')
    untouched.replace("stages/models/stage.toml", "summary =", "sumary =")
    message = untouched.refuse("app", code=2)
    assert "stages/app/stage.toml: `form`" in message
    assert "did you mean `from`" in message
    assert "stages/app/stage.toml: `ships`" in message
    assert "stages/models/stage.toml: `sumary`" in message


def test_stage_without_root_or_layers_is_refused(untouched: Tiny) -> None:
    untouched.write("stages/empty/stage.toml", 'summary = "x"\n')
    message = untouched.refuse("empty", code=2)
    assert "stages/empty/stage.toml: there is nothing to build: it has neither a root nor layers" in message
    assert "add `from`, [root]" in message


def test_invalid_toml_is_reported(untouched: Tiny) -> None:
    untouched.write("stages/app/stage.toml", 'summary = "x\n')
    message = untouched.refuse("app", code=2)
    assert "stages/app/stage.toml: is not TOML" in message
    assert "line 1" in message


def test_invalid_setting_is_reported(untouched: Tiny) -> None:
    untouched.replace("pyproject.toml", "bins = 4", "bin = 4")
    message = untouched.refuse("app", code=2)
    assert "pyproject.toml: `tool.buildkit.bin`" in message
    assert "did you mean `bins`" in message


def test_inheritance_cycle_is_reported(untouched: Tiny) -> None:
    untouched.replace("stages/deps/stage.toml", "[wheels]", 'include = ["app"]\n[wheels]')
    message = untouched.refuse("app", code=2)
    assert "app → deps → app" in message
    assert ".toml" in message


def test_unknown_stage_is_reported(untouched: Tiny) -> None:
    untouched.replace("stages/app/stage.toml", '"models"', '"model"')
    message = untouched.refuse("app", code=2)
    assert "stages/app/stage.toml: `include`: there is no stage `model`" in message
    assert "models" in message.partition("hint:")[2]


def test_unknown_option_is_reported(untouched: Tiny) -> None:
    assert "--forzen" in untouched.refuse("app", "--forzen", code=2)


def test_invalid_number_of_jobs_is_reported(untouched: Tiny) -> None:
    assert "--jobs" in untouched.refuse("app", "--jobs", "many", code=2)


@pytest.mark.parametrize("lock", ["requirements/app.txt", "requirements/app.wheels.toml", "requirements/models.lock"])
def test_missing_lock_is_reported(untouched: Tiny, lock: str) -> None:
    (untouched.project / lock).unlink()
    message = untouched.refuse("app", code=2)
    assert f"{lock}: the lock is missing" in message
    assert "nox -s lock" in message


@pytest.mark.parametrize(
    ("file", "old", "new", "lock"),
    [
        ("requirements/app.in", "alpha==1.0", "alpha==1.1", "requirements/app.txt"),
        ("requirements/models.toml", '"greeter"', '"greeting"', "requirements/models.lock"),
        ("pyproject.toml", 'python = "3.13"', 'python = "3.12"', "requirements/app.txt"),
    ],
)
def test_stale_lock_is_reported(untouched: Tiny, file: str, old: str, new: str, lock: str) -> None:
    untouched.replace(file, old, new)
    message = untouched.refuse("app", code=2)
    assert f"{lock}: the lock is older than its input" in message
    assert "nox -s lock" in message
    checked = one_error(untouched.run("lock", "--check"), 1)
    assert lock in checked


def test_pin_without_hash_is_reported(untouched: Tiny) -> None:
    text = (untouched.project / "requirements/app.txt").read_text()
    start = text.index("beta==1.0")
    end = text.index("gamma==1.0")
    untouched.write("requirements/app.txt", text[:start] + "beta==1.0\n" + text[end:])
    message = untouched.refuse("app", code=2)
    assert "requirements/app.txt:" in message
    assert "beta==1.0 has no sha256 hash" in message


def test_conflicting_locks_are_reported(untouched: Tiny) -> None:
    untouched.write("requirements/more.in", "alpha==1.1\n")
    untouched.write("stages/more/stage.toml", 'summary = "more"\n[wheels]\nlocks = ["requirements/more.txt"]\n')
    untouched.lock()  # nothing has both yet
    untouched.replace("stages/app/stage.toml", '"models"', '"models", "more"')
    message = untouched.refuse("app", code=2)
    assert "alpha==1.0" in message
    assert "alpha==1.1" in message
    assert "requirements/app.txt" in message
    assert "requirements/more.txt" in message


def test_inputs_that_cannot_agree_are_reported(untouched: Tiny) -> None:
    untouched.write("requirements/more.in", "alpha==1.1\n")
    untouched.write("stages/more/stage.toml", 'summary = "more"\n[wheels]\nlocks = ["requirements/more.txt"]\n')
    untouched.replace("stages/app/stage.toml", '"models"', '"models", "more"')
    ended = untouched.run("lock")
    assert ended.code in (1, 2)
    assert "alpha" in ended.text
    assert [line for line in ended.errors if "locking" in line] == ended.errors[-1:]  # after uv's own words
    assert not (untouched.project / "requirements/more.txt").exists()


def test_pin_without_fitting_wheel_or_sdist_is_reported(untouched: Tiny) -> None:
    links = untouched.folder / "links"
    metadata = "Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n\n"
    wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp313-cp313-win_amd64\n"
    made = make_wheel(links, {"e.py": b""}, name="elsewhere", version="1.0", METADATA=metadata, WHEEL=wheel)
    made.rename(links / "elsewhere-1.0-cp313-cp313-win_amd64.whl")
    untouched.write("requirements/app.in", "alpha==1.0\nelsewhere==1.0\n")
    message = one_error(untouched.run("lock"), 2)
    assert "elsewhere==1.0: no wheel fits Python 3.13" in message
    assert "win_amd64" in message


def test_requirement_missing_from_all_indexes_is_reported(untouched: Tiny) -> None:
    untouched.write("requirements/app.in", "alpha==7.0\n")
    ended = untouched.run("lock")
    assert ended.code in (1, 2)
    assert [line for line in ended.errors if "locking" in line] == ended.errors[-1:]  # after uv's own words
    assert "alpha" in ended.text
    assert "Traceback" not in ended.text


@pytest.mark.parametrize("change", ["changed", "missing"])
def test_changed_model_is_an_error_with_frozen(untouched: Tiny, change: str) -> None:
    path = untouched.project / "models/greeter/weights.txt"
    path.unlink() if change == "missing" else path.write_text("other weights")
    message = untouched.refuse("app", "--frozen", code=2)
    assert "models/greeter/weights.txt" in message
    assert "greeter" in message
    assert "hint:" in message


def test_missing_copy_source_is_reported(untouched: Tiny) -> None:
    untouched.replace("stages/app/stage.toml", 'source = "app"', 'source = "ap"')
    message = untouched.refuse("app", code=2)
    assert "stages/app/stage.toml: `copy.source`: there is no stages/app/ap and no ap in the repository" in message
    assert "did you mean `stages/app/app`?" in message


def test_whiteout_in_an_application_is_reported(untouched: Tiny) -> None:
    """`.wh.NAME` would delete NAME of the layers below; podman cannot even save such an image."""
    untouched.write("stages/app/app/.wh.notes", "x")
    untouched.git("add", ".")
    message = untouched.refuse("app", code=1)
    assert "stages/app/app/.wh.notes: 'app/.wh.notes' has a name that deletes files of the layers below" in message
    assert "hint: rename the file" in message
    untouched.git("reset", "--quiet")


def test_root_image_by_name_without_a_lock_is_reported(untouched: Tiny) -> None:
    untouched.write("stages/base/stage.toml", 'summary = "x"\n[root]\nimage = "127.0.0.1:5000/tiny/root:latest"\n')
    message = untouched.refuse("app", code=2)
    assert message.endswith("requirements/images.lock: the lock is missing\nhint: run: nox -s lock\n")


def test_too_many_layers_are_reported(untouched: Tiny) -> None:
    untouched.replace("pyproject.toml", "bins = 4", "bins = 4\nmax-layers = 4")
    message = untouched.refuse("app", code=2)
    assert "9 layers, more than 4" in message


def test_upgrade_reports_its_changes(untouched: Tiny) -> None:
    untouched.write("requirements/app.in", "alpha\nbeta\ngamma\nbulk\n")
    assert "same versions" in untouched.lock().text
    add_wheel(untouched.folder / "links", "beta", "2.0")
    assert "nothing changed" in untouched.lock().text
    upgraded = untouched.lock("--upgrade").text
    assert "alpha 1.0 → 1.1" in upgraded
    assert "beta 1.0 → 2.0" in upgraded


@pytest.mark.parametrize(
    ("options", "printed", "hint"),
    [
        (("--output", "-"), "several files, which cannot be printed", "leave --output away for Podmanfile"),
        (("--output", "stages"), "`stages` is not a file", "name a file, such as stages/Podmanfile"),
        (("--find-links", "nowhere"), "there is no folder `nowhere`", "name a folder of wheels below"),
    ],
)
def test_impossible_export_is_reported(untouched: Tiny, options: tuple[str, str], printed: str, hint: str) -> None:
    before = sorted(untouched.project.iterdir())
    message = one_error(untouched.run("export-containerfile", "app", *options), 2)
    assert printed in message
    assert hint in message.partition("hint:")[2]
    assert sorted(untouched.project.iterdir()) == before
