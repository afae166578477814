"""A change costs its own size, by the reports of a tiny project."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.tinyproject import Tiny

pytestmark = pytest.mark.tools


@pytest.fixture
def built(tiny: Tiny) -> Tiny:
    """The tiny project, whose app is built."""
    tiny.build("app")
    return tiny


def test_built_image_runs(tiny: Tiny) -> None:
    built = tiny.build("app")
    assert list(built.built()) == [
        "base/image",
        "/opt/venv",
        "deps/bulk",
        "deps/bin-0",
        "deps/bin-1",
        "deps/bin-2",
        "models/greeter",
        "models/speller",
        "app/app",
    ]
    assert set(built.built().values()) == {"first build"}
    assert tiny.run_image("app") == "hello from /app\n"
    assert tiny.run_image("app", "/bin/sh", "-c", "echo $FROM_ROOT; id -u") == "yes\n1000\n"
    image = tiny.inspect("app")
    assert image["Labels"]["from.root"] == "yes"
    assert f"localhost/tiny/app@{built.report['digest']}" in image["RepoDigests"]
    assert image["RootFS"]["Layers"] == [layer["diff_id"] for layer in built.report["layers"]]
    assert image["Healthcheck"]["Test"] == ["CMD", "/bin/sh", "-c", "exit 0"]
    assert len({line["created_by"] for line in image["History"]}) == len(built.report["layers"])
    assert tiny.left_over() == []


def test_unchanged_project_builds_and_imports_nothing(built: Tiny) -> None:
    before = built.snapshot()
    again = built.build("app")
    assert again.built() == {}
    assert {layer["source"] for layer in again.report["layers"]} == {"storage"}
    assert again.report["bytes"] == {"fetched": 0, "built": 0, "imported": 0, "pushed": 0}
    assert "nothing changed" in again.text
    assert built.snapshot() == before


def test_copy_onto_a_folder_of_the_root_is_refused(built: Tiny) -> None:
    """The image before stays as it is; once the target is right, only that layer is built."""
    before = built.inspect("app")["Id"]
    built.replace("stages/app/stage.toml", 'source = "app"\ntarget = "/app"', 'source = "app/main.sh"\ntarget = "/mnt"')
    message = built.refuse("app", code=1)
    assert "/mnt of the layer app/app/main.sh would replace /mnt, a folder of the root" in message
    assert "another target" in message
    assert built.inspect("app")["Id"] == before
    built.replace("stages/app/stage.toml", '"/mnt"', '"/mnt/main.sh"')
    assert list(built.build("app").built()) == ["app/app/main.sh"]


def test_removed_image_is_delivered_again(built: Tiny) -> None:
    before = built.inspect("app")["Id"]
    built.remove_image("app")
    built.tool("podman", "image", "inspect", "localhost/tiny/app", code=125)
    again = built.build("app")
    assert again.built() == {}
    assert built.inspect("app")["Id"] == before
    assert built.run_image("app") == "hello from /app\n"


def test_foreign_image_of_the_same_name_is_replaced(built: Tiny) -> None:
    first = built.inspect("app")["Id"]
    built.tool("buildah", "from", "--name", "other", "scratch")
    built.tool("buildah", "commit", "--quiet", "other", "localhost/tiny/app:latest")
    built.tool("buildah", "rm", "other")
    assert built.inspect("app")["Id"] != first
    assert built.build("app").built() == {}
    assert built.inspect("app")["Id"] == first
    assert built.run_image("app") == "hello from /app\n"


def test_changed_application_file_changes_only_its_layer(built: Tiny) -> None:
    built.write("stages/app/app/main.sh", 'echo "$GREETING again"\n')
    changed = built.build("app")
    assert changed.built() == {"app/app": "stages/app/app/main.sh changed"}
    assert changed.report["bytes"]["fetched"] == 0
    assert changed.report["bytes"]["imported"] < 20_000
    assert built.run_image("app") == "hello again\n"


def test_untracked_file_changes_nothing_and_is_reported(built: Tiny) -> None:
    built.write("stages/app/app/new.txt", "new")
    ended = built.build("app")
    assert ended.built() == {}
    assert "stages/app/app/new.txt: not tracked by git" in ended.text
    built.git("add", ".")
    assert built.build("app").built() == {"app/app": "stages/app/app/new.txt added"}


def test_changed_pin_changes_only_its_bin(built: Tiny) -> None:
    built.replace("requirements/app.in", "alpha==1.0", "alpha==1.1")
    assert "alpha 1.0 → 1.1" in built.lock().text
    changed = built.build("app")
    assert changed.built() == {"deps/bin-2": "alpha 1.0 → 1.1 (requirements/app.txt:3)"}
    assert built.run_image("app", "cat", "/opt/venv/lib/python3.13/site-packages/alpha/__init__.py") == (
        'VERSION = "1.1"\n'
    )


def test_pin_removed_and_restored_builds_nothing(built: Tiny) -> None:
    text = (built.project / "requirements/app.in").read_text()
    built.replace("requirements/app.in", "alpha==1.0\n", "")
    built.lock()
    assert built.build("app").built() == {}
    assert built.run_image("app", "ls", "/opt/venv/lib/python3.13/site-packages").split()[0] != "alpha"
    built.write("requirements/app.in", text)
    built.lock()
    assert built.build("app").built() == {}


def test_changed_model_file_changes_only_its_layer(built: Tiny) -> None:
    built.write("models/greeter/weights.txt", "better weights")
    refused = built.refuse("app", code=2)
    assert "models/greeter/weights.txt: model `greeter` differs from requirements/models.lock" in refused
    assert "hint: run: nox -s lock (or build with --changed-models" in refused
    changed = built.build("app", "--changed-models")
    assert changed.built() == {"models/greeter": "weights.txt of model greeter changed (models/greeter/weights.txt)"}
    assert "models/greeter/weights.txt: model `greeter` differs from requirements/models.lock" in changed.text
    assert built.run_image("app", "cat", "/models/greeter/weights.txt") == "better weights"
    built.lock()
    locked = built.build("app")
    assert locked.built() == {}
    assert "differs" not in locked.text


def test_large_model_files_have_their_own_layers(tiny: Tiny) -> None:
    for name in ("one", "two"):
        (tiny.project / f"models/greeter/{name}.bin").write_bytes(name.encode() * (3 << 20))
    tiny.lock()
    tiny.build("models", "--no-import")
    (tiny.project / "models/greeter/two.bin").write_bytes(b"TWO" * (3 << 20))
    assert list(tiny.build("models", "--no-import", "--changed-models").built()) == ["models/greeter/two.bin"]


def test_changed_config_builds_no_layer(built: Tiny) -> None:
    built.replace("stages/app/stage.toml", '"hello"', '"good day"')
    changed = built.build("app")
    assert changed.built() == {}
    assert changed.report["bytes"]["imported"] == 0
    assert built.run_image("app") == "good day from /app\n"


def test_deleted_cache_is_not_needed_while_storage_has_every_layer(built: Tiny) -> None:
    for path in built.cache.glob("sha256/*"):
        path.unlink()
    assert built.build("app").built() == {}
    built.write("stages/app/app/main.sh", "echo new")
    assert list(built.build("app").built()) == ["app/app"]
    assert built.run_image("app") == "new\n"


def test_stages_share_common_layers(built: Tiny) -> None:
    assert built.build("models", "--no-import").built() == {}
    assert built.build("deps", "--no-import").built() == {}


def test_build_without_a_stage_builds_every_shipping_stage(tiny: Tiny) -> None:
    ended = tiny.run("build")
    assert ended.code == 0, ended.text
    assert [report["stage"] for report in ended.report] == ["app"]


def test_lock_does_not_need_the_target_interpreter(tiny: Tiny) -> None:
    tiny.lock("--upgrade")
    assert not (tiny.folder / "home/.local/share/uv/python").exists(), "uv fetched a Python only to resolve for it"


_NO_PACKING = """from buildkit.build import layer_writer
def refuse(*arguments, **named):
    raise AssertionError("a layer is packed again")
layer_writer.write_layer = refuse
"""  # code for `Tiny.after`


@pytest.mark.parametrize("seen", [False, True])
def test_other_compression_compresses_layers_again_that_are_here(
    tiny: Tiny, make_tiny: Callable[[], Tiny], *, seen: bool
) -> None:
    def choose_gzip(project: Tiny) -> None:
        text = (project.project / "pyproject.toml").read_text()
        project.write("pyproject.toml", text.replace("[tool.buildkit]", '[tool.buildkit]\ncompression = "gzip"'))

    tiny.see_store(seen=seen)
    first = tiny.build("app")
    choose_gzip(tiny)
    with tiny.after(_NO_PACKING):
        again = tiny.build("app")
    assert len(again.built()) == len(first.built()) - 1, "all but the registry's image"
    assert again.report["digest"] == first.report["digest"]
    other = make_tiny()
    other.see_store(seen=seen)
    choose_gzip(other)
    fresh = other.build("app").report["layers"]
    assert [(x["key"], x["digest"]) for x in again.report["layers"]] == [(x["key"], x["digest"]) for x in fresh]
    assert tiny.run_image("app") == "hello from /app\n"
