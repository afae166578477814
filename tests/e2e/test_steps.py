"""`[[run]]` steps of a tiny project, in real containers."""

from __future__ import annotations

import pytest

from tests.e2e.tinyproject import Tiny

pytestmark = pytest.mark.tools

_TAKE_AWAY = """from buildkit.build.containers import ContainerRunner
from buildkit.tools import buildah
kept = ContainerRunner.ensure_image
def ensure_image(self, chain):
    ContainerRunner.ensure_image = kept
    size = kept(self, chain)
    buildah.remove_image(self._root_ref(chain))
    return size
ContainerRunner.ensure_image = ensure_image
"""


def test_steps_extend_the_root_below_the_layers(tiny: Tiny) -> None:
    app = tiny.build("app")
    tools = tiny.build("tools")
    assert tools.built() == {"tools/write": "first build", "tools/link": "first build"}
    names = [layer["name"] for layer in tools.report["layers"]]
    assert names[:3] == ["base/image", "tools/write", "tools/link"]
    shared = {name: diff_id for name, diff_id in tools.digests().items() if not name.startswith("tools/")}
    assert shared == app.digests()
    assert tiny.run_image("tools", "cat", "/opt/tools/copy") == "of the recipe\nsweet\n"
    assert tiny.run_image("tools") == "hello from /app\n"
    assert tiny.left_over() == []


def test_root_removed_before_its_step_starts_is_restored(tiny: Tiny) -> None:
    """`cache gc` of another cache may, where both use one local storage."""
    with tiny.after(_TAKE_AWAY):
        ended = tiny.build("tools")
    assert ":root-" in ended.text
    assert " is gone from local storage; planning again" in ended.text
    assert ended.built().keys() >= {"tools/write", "tools/link"}
    assert tiny.run_image("tools", "cat", "/opt/tools/copy") == "of the recipe\nsweet\n"
    assert tiny.left_over() == []


def test_step_environment_and_mounts_stay_out_of_the_image(tiny: Tiny) -> None:
    tiny.build("tools")
    assert not [line for line in tiny.inspect("tools")["Config"]["Env"] if "FLAVOUR" in line]
    assert tiny.run_image("tools", "ls", "/mnt") == ""
    assert "FLAVOUR" not in tiny.run_image("tools", "env")


def test_changed_mounted_file_rebuilds_the_step(tiny: Tiny) -> None:
    first = tiny.build("tools")
    tiny.write("stages/tools/files/recipe.txt", "of another recipe\n")
    again = tiny.build("tools")
    assert again.built() == {
        "tools/write": "stages/tools/files/recipe.txt changed",
        "tools/link": "a layer below: stages/tools/files/recipe.txt changed",
    }
    assert tiny.run_image("tools", "cat", "/opt/tools/copy") == "of another recipe\nsweet\n"
    tiny.write("stages/tools/files/recipe.txt", "of the recipe\n")
    back = tiny.build("tools")
    assert back.built() == {}
    assert back.digests() == first.digests()


@pytest.mark.parametrize("old", ["network = false", ""])
def test_step_has_no_network_unless_requested(tiny: Tiny, listener: tuple[int, list[object]], old: str) -> None:
    port, callers = listener
    tiny.write("stages/tools/stage.toml", _step(f"echo hello > /dev/tcp/127.0.0.1/{port}", old))
    message = tiny.refuse("tools", code=1)
    assert "tools/call" in message
    assert "`network = true`" in message
    assert callers == []
    tiny.write("stages/tools/stage.toml", _step(f"echo hello > /dev/tcp/127.0.0.1/{port}", "network = true"))
    tiny.build("tools")
    assert len(callers) == 1


def test_failing_step_prints_its_output_once_and_leaves_nothing(tiny: Tiny) -> None:
    tiny.build("app")
    before = tiny.snapshot()
    tiny.write("stages/tools/stage.toml", _step("echo this went well; echo but this is broken >&2; exit 3"))
    ended = tiny.run("build-tools")
    assert ended.code == 1
    assert len(ended.errors) == 1
    assert "tools/call" in ended.errors[0]
    assert "exit code 3" in ended.errors[0]
    assert [ended.text.count(line) for line in ("\nthis went well\n", "\nbut this is broken\n")] == [1, 1]
    assert "Traceback" not in ended.text
    assert tiny.left_over() == []
    after = tiny.snapshot()
    assert without_roots(after) == without_roots(before)


def test_step_with_unknown_program_is_named(tiny: Tiny) -> None:
    tiny.write("stages/tools/stage.toml", _step("no-such-program --now"))
    ended = tiny.run("build-tools")
    assert ended.code == 1
    assert "no-such-program" in ended.text
    assert len(ended.errors) == 1
    assert tiny.left_over() == []


def test_step_with_missing_mount_source_is_reported(tiny: Tiny) -> None:
    tiny.replace("stages/tools/stage.toml", 'source = "stages/tools/files"', 'source = "stages/tools/fils"')
    message = tiny.refuse("tools", code=2)
    assert "stages/tools/fils" in message


def without_roots(snapshot: dict[str, object]) -> dict[str, object]:
    """A snapshot less the images that only serve to start containers."""
    images = snapshot["images"]
    assert isinstance(images, dict)
    return {**snapshot, "images": {name: made for name, made in images.items() if ":root-" not in name}}


def _step(script: str, more: str = "") -> str:
    return f'summary = "one step"\nfrom = "app"\n[[run]]\nname = "call"\nscript = """{script}"""\n{more}\n'
