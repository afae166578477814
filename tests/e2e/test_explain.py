"""``nox -s explain`` on a tiny project: why layers would be built, and when they were built."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from buildkit.digest import Key
from tests.e2e.conftest import new_tiny
from tests.e2e.tinyproject import Tiny, one_error
from tests.ledgers import update_checksums

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("imports")]
DATE = r"20\d\d-\d\d-\d\d \d\d:\d\d"
STAYS = f"stays as it is; built {DATE}: first build"
FOR_THE_BIN = f"imported again, because deps/bin-2 below it changes; built {DATE}: first build"
LOWEST = ["base/image", "/opt/venv", "deps/bulk", "deps/bin-0", "deps/bin-1"]
UPPER = ["models/greeter", "models/speller", "app/app"]


@pytest.fixture(scope="module")
def shared(template: Path, registry: str, links: Path) -> Iterator[Tiny]:
    """A tiny project with its app and the layers of its tools built."""
    tiny = new_tiny(template, registry, links)
    tiny.build("app")
    tiny.build("tools", "--no-import")
    yield tiny
    tiny.remove()


@pytest.fixture
def same(shared: Tiny) -> Iterator[Tiny]:
    """The built project, for tests that change only its files."""
    yield shared
    shared.git("reset", "--quiet", "--hard")
    shared.git("clean", "--quiet", "-fd")


@pytest.fixture
def built(tiny: Tiny) -> Tiny:
    """A separate project with its app built."""
    tiny.build("app")
    return tiny


def explain(tiny: Tiny, *arguments: str) -> tuple[dict[str, list[str]], str]:
    """Return the lines of every layer and the last line; check that nothing changed."""
    before = tiny.snapshot()
    ended = tiny.run("explain", *arguments)
    assert ended.code == 0, ended.text
    assert tiny.snapshot() == before
    layers: dict[str, list[str]] = {}
    last = ""
    for line in (line for line in ended.text.splitlines() if not line.startswith("nox >")):
        if line.startswith("    "):
            layers[list(layers)[-1]].append(line.strip())
        elif "  " in line:
            name, what = re.split(r"  +", line, maxsplit=1)
            layers[name] = [what]
        else:
            last = line
    return layers, last


def whole(tiny: Tiny, stage: str = "app") -> dict[str, Any]:
    argv = tiny.argv("explain", stage, "--json")
    done = subprocess.run(argv, cwd=tiny.folder, env=tiny.env, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def causes(tiny: Tiny, stage: str = "app") -> dict[str, list[str]]:
    """Return the causes of the layers that would be built."""
    layers, _ = explain(tiny, stage)
    return {name: lines for name, (what, *lines) in layers.items() if "would be built" in what}


def change_ledger(tiny: Tiny, *statements: tuple[str, tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db, db:
        for statement, values in statements:
            db.execute(statement, values)
    update_checksums(tiny.cache / "ledger.sqlite")


def drop_layer(tiny: Tiny, name: str) -> str:
    """Remove a layer's blob from the cache and its image from storage; return its key."""
    (layer,) = (layer for layer in whole(tiny)["layers"] if layer["name"] == name)
    key: str = layer["key"].removeprefix("sha256:")
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db:
        ((blobs,),) = db.execute("SELECT blobs FROM layers WHERE key = ?", (key,)).fetchall()
    (tiny.cache / "sha256" / json.loads(blobs)[0][0]).unlink()
    tiny.tool("podman", "rmi", "localhost/tiny/app:latest")
    return key


def test_explain_before_the_first_build(tiny: Tiny) -> None:
    layers, last = explain(tiny, "app")
    assert list(layers) == [*LOWEST, "deps/bin-2", *UPPER]
    assert all(lines == ["would be built:", "first build"] for lines in layers.values())
    assert last == "app: 9 of 9 layers would be built"


def test_explain_of_an_up_to_date_image_tells_when_layers_were_built(same: Tiny) -> None:
    layers, last = explain(same, "app")
    assert last == "app: nothing would be rebuilt"
    assert len(layers) == 9
    assert all(re.fullmatch(STAYS, line) for (line,) in layers.values())
    other, last = explain(same, "models")  # which was built for another stage, and is not in storage
    assert last == "models: nothing would be rebuilt"
    assert all(re.fullmatch(f"imported; built {DATE} for app: first build", line) for (line,) in other.values())


def test_changed_application_file_is_the_cause(built: Tiny) -> None:
    built.write("stages/app/app/main.sh", "echo new\n")
    layers, last = explain(built, "app")
    assert layers["app/app"] == ["would be built:", "stages/app/app/main.sh changed"]
    assert last == "app: 1 of 9 layers would be built"
    built.build("app")
    layers, last = explain(built, "app", "app/app")
    assert last == ""
    (line,) = layers.pop("app/app")
    assert not layers
    assert re.fullmatch(f"stays as it is; built {DATE}: stages/app/app/main.sh changed", line)


@pytest.mark.parametrize("how", [("--no-import",), ()], ids=["not imported", "there already"])
def test_reverted_change_is_no_cause(built: Tiny, how: tuple[str, ...]) -> None:
    """A no-op build records the layers of an image, too."""
    words = (built.project / "stages/app/app/words.txt").read_text()
    built.write("stages/app/app/words.txt", "other words")
    built.build("app", "--no-import")
    built.write("stages/app/app/words.txt", words)
    assert built.build("app", *how).built() == {}
    builds = built.rows("builds")
    built.build("app", *how)
    assert built.rows("builds") == builds  # nothing is written of what is as it was
    built.write("stages/app/app/main.sh", "echo new\n")
    assert causes(built) == {"app/app": ["stages/app/app/main.sh changed"]}


def test_changed_pin_has_its_lock_line_and_layers_above_are_imported_again(same: Tiny) -> None:
    same.replace("requirements/app.in", "alpha==1.0", "alpha==1.1")
    same.lock()
    layers, last = explain(same, "app")
    line = (same.project / "requirements/app.txt").read_text().splitlines().index("alpha==1.1 \\") + 1
    assert layers["deps/bin-2"] == ["would be built:", f"alpha 1.0 → 1.1 (requirements/app.txt:{line})"]
    assert all(re.fullmatch(STAYS, layers[name][0]) for name in LOWEST)
    assert all(re.fullmatch(FOR_THE_BIN, layers[name][0]) for name in UPPER)
    assert last == "app: 1 of 9 layers would be built, 3 imported again"
    (layer,) = (layer for layer in whole(same)["layers"] if layer["source"] == "built")
    pin = {"name": "alpha", "before": "1.0", "after": "1.1"}
    where = f"requirements/app.txt:{line}"
    assert layer["causes"] == [{"cause": "pin-changed", "text": "alpha 1.0 → 1.1", "where": where, **pin}]
    assert [layer["below"] for layer in whole(same)["layers"]] == [""] * 6 + ["deps/bin-2"] * 3


def test_changed_root_image_is_explained_without_a_registry(same: Tiny, listener: tuple[int, list[object]]) -> None:
    port, callers = listener
    stage = same.project / "stages/base/stage.toml"
    (image,) = re.findall(r'image = "(.*)@', stage.read_text())
    same.replace("pyproject.toml", "bytecode =", f'cache = "127.0.0.1:{port}/cache"\nbytecode =')
    same.replace("stages/base/stage.toml", image, f"127.0.0.1:{port}/other")
    found = causes(same, "tools")
    what = f"image {image} → 127.0.0.1:{port}/other"
    where = "(stages/base/stage.toml: root.image)"
    assert found == {
        "base/image": [f"{what} {where}"],
        "tools/write": [f"a layer below: {what} {where}"],
        "tools/link": [f"a layer below: {what} {where}"],
    }
    assert callers == []


def test_changed_setting_is_the_cause(same: Tiny) -> None:
    same.replace("pyproject.toml", "bytecode = false", 'bytecode = false\ninterpreter = "/usr/local/bin/python3"')
    line = "interpreter /usr/bin/python3.13 → /usr/local/bin/python3 (pyproject.toml: [tool.buildkit] interpreter)"
    names = ["/opt/venv", "deps/bulk", "deps/bin-0", "deps/bin-1", "deps/bin-2"]
    assert causes(same) == {name: [line] for name in names}


def test_wheel_moved_to_its_own_layer_is_the_cause(same: Tiny) -> None:
    same.replace("pyproject.toml", "heavy = 50_000", "heavy = 1_000_000")
    found = causes(same)
    moved = [line for lines in found.values() for line in lines if line.startswith("bulk 1.0 moved from deps/bulk to ")]
    assert len(moved) == 1
    assert moved[0].endswith("(pyproject.toml: [tool.buildkit] heavy)")


def test_changed_recipe_format_is_the_cause(built: Tiny) -> None:
    with closing(sqlite3.connect(built.cache / "ledger.sqlite")) as db:
        ((old, text),) = db.execute("SELECT key, recipe FROM layers WHERE name = 'app/app'").fetchall()
    recipe = json.dumps({**json.loads(text), "format": 0})
    key = Key.of(recipe.encode()).hex
    change_ledger(
        built,
        ("UPDATE layers SET key = ?, recipe = ? WHERE key = ?", (key, recipe, old)),
        ("UPDATE builds SET report = replace(report, ?, ?)", (old, key)),
    )
    assert causes(built) == {"app/app": ["packer format 0 → 2"]}


def test_removed_blob_is_the_cause(built: Tiny) -> None:
    drop_layer(built, "models/greeter")
    layers, last = explain(built, "app")
    assert layers["models/greeter"] == ["would be built again:", "its blob is missing from the cache"]
    assert re.fullmatch(f"imported; built {DATE}: first build", layers["app/app"][0])
    assert last == "app: 1 of 9 layers would be built"


def test_eviction_by_gc_is_a_cause(built: Tiny) -> None:
    text = (built.project / "stages/app/app/main.sh").read_text()
    built.write("stages/app/app/main.sh", "echo new\n")
    built.build("app")
    assert built.run("cache", "gc", "--keep-days", "0").code == 0
    built.write("stages/app/app/main.sh", text)  # as it was
    (line, *more) = causes(built)["app/app"]
    assert line == "stages/app/app/main.sh changed"
    assert len(more) == 1
    assert re.fullmatch(r"evicted by gc on 20\d\d-\d\d-\d\d", more[0])
    again = built.build("app")
    assert again.built() == {"app/app": f"{line}, {more[0]}"}
    assert causes(built) == {}


def test_damaged_blob_is_the_cause(built: Tiny) -> None:
    for path in built.cache.glob("sha256/*"):
        path.write_bytes(b"other bytes")
    built.tool("podman", "rmi", "localhost/tiny/app:latest")
    assert built.run("cache", "verify").code == 1
    found = causes(built)
    assert len(found) == 9
    line = r"its blob was damaged and removed on 20\d\d-\d\d-\d\d: found by verify"
    assert all(re.fullmatch(line, only) for (only,) in found.values())


@pytest.mark.parametrize("how", ["key", "sha256", "capitals"])
def test_layer_can_be_selected_by_key(same: Tiny, how: str) -> None:
    key = whole(same)["layers"][-1]["key"]
    digits = key[7 : 7 + 8]
    asked = {"key": digits, "sha256": f"sha256:{digits}", "capitals": digits.upper()}
    layers, _ = explain(same, "app", asked[how])
    assert list(layers) == ["app/app"]


@pytest.mark.parametrize(("asked", "name"), [("bulk", "deps/bulk"), ("venv", "/opt/venv"), ("app", "app/app")])
def test_layer_can_be_selected_by_a_unique_name_ending(same: Tiny, asked: str, name: str) -> None:
    layers, _ = explain(same, "app", asked)
    assert list(layers) == [name]


def test_ambiguous_name_ending_is_refused_with_all_candidates(same: Tiny) -> None:
    same.git("mv", "stages/app/app", "stages/app/bulk")
    same.replace("stages/app/stage.toml", 'source = "app"', 'source = "bulk"')
    message = one_error(same.run("explain", "app", "bulk"), 2)
    assert "2 layers are called `bulk`" in message
    assert "hint: did you mean deps/bulk, app/bulk?" in message


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (("app", "app/ap"), "there is no layer `app/ap`", "did you mean app/app?"),
        (("app", "ven"), "there is no layer `ven`", "did you mean /opt/venv?"),
        (("ap",), "there is no stage `ap`", "did you mean app?"),
        ((), "the following arguments are required: STAGE", "usage: nox -s explain"),
    ],
)
def test_unknown_layer_or_stage_is_refused_with_a_suggestion(
    same: Tiny, arguments: tuple[str, ...], error: str, hint: str
) -> None:
    message = one_error(same.run("explain", *arguments), 2)
    assert error in message
    assert f"hint: {hint}" in message


def test_control_characters_of_file_names_do_not_reach_the_terminal(same: Tiny) -> None:
    same.git("mv", "stages/app/app/words.txt", "stages/app/app/\x1b[31mwords.txt")
    same.write("stages/app/app/\x1b[31mwords.txt", "red words")
    assert causes(same) == {"app/app": ["stages/app/app/�[31mwords.txt added", "stages/app/app/words.txt removed"]}
