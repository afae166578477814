"""``nox -s plan`` matches the build that follows, and changes nothing."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from buildkit.store.ledger import Ledger
from tests.e2e.tinyproject import Tiny

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("imports")]


def plan(tiny: Tiny, *arguments: str, **env: str) -> dict[str, Any]:
    done = tiny.run("plan", "app", "--json", *arguments, **env)
    assert done.code == 0, done.text
    start = done.text.index("{")
    value: dict[str, Any]
    value, _ = json.JSONDecoder().raw_decode(done.text[start:])
    return value


def test_plan_matches_the_following_build(tiny: Tiny) -> None:
    first = plan(tiny)
    assert {layer["source"] for layer in first["layers"]} == {"built"}
    assert {layer["why"] for layer in first["layers"]} == {"first build"}
    assert tiny.blobs() == []
    words = tiny.run("plan", "app").text
    assert "to fetch 103 kB and more, to build about 424 kB and more" in words  # a root's size is not known yet
    built = tiny.build("app")
    assert [x["key"] for x in first["layers"]] == list(dict.fromkeys(x["key"] for x in built.report["layers"]))
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db:
        made = db.execute("SELECT name, blobs FROM layers WHERE kind IN ('files', 'model')").fetchall()
    expected = {layer["name"]: layer["build"] for layer in first["layers"]}
    assert {name: json.loads(blobs)[0][3] for name, blobs in made} == {name: expected[name] for name, _ in made}
    assert len(made) == 3
    downloads = sum(path.stat().st_size for path in tiny.cache.glob("files/*/*"))
    assert sum(layer["fetch"] or 0 for layer in first["layers"]) == downloads == built.report["bytes"]["fetched"]


def test_plan_after_a_change_has_only_that_work_and_known_times(tiny: Tiny) -> None:
    tiny.build("app")
    again = plan(tiny)
    assert {layer["source"] for layer in again["layers"]} == {"storage"}
    assert again["bytes"] == {"fetch": 0, "build": 0, "import": 0, "push": None}
    assert again["seconds"] == 0
    text = tiny.run("plan", "app").text
    assert "app: nothing to build or to import: 9 in local storage" in text

    tiny.replace("stages/app/app/words.txt", "w", "W")
    before = tiny.snapshot()
    changed = plan(tiny)
    assert tiny.snapshot() == before
    (only,) = [layer for layer in changed["layers"] if layer["source"] != "storage"]
    assert only["name"] == "app/app"
    assert "words.txt" in only["why"]
    assert only["fetch"] == 0
    assert only["build"] > 0
    assert changed["seconds"] is not None
    assert (
        "app: 8 in local storage, 1 to be built\nto build about 3.6 kB, to import about 3.6 kB; about "
        in tiny.run("plan", "app").text
    )
    done = tiny.build("app")
    assert list(done.built()) == ["app/app"]
    assert done.report is not None
    assert changed["bytes"]["build"] == changed["bytes"]["import"] == done.report["bytes"]["imported"]
    assert done.built()["app/app"] == only["why"]


def rows(tiny: Tiny, *arguments: str) -> dict[str, list[str]]:
    """The cells of every row of the table for people, by layer; the first column is the source."""
    text = tiny.run("plan", "app", *arguments).text
    lines = [line for line in text.splitlines() if not line.startswith("nox >")]
    cells = [line.split() for line in lines[: next(n for n, line in enumerate(lines) if line.startswith("app: "))]]
    return {name: found for name, *found in cells[1:]}


def test_plan_lists_all_layers_on_request(tiny: Tiny) -> None:
    tiny.build("app")
    names = [layer["name"] for layer in plan(tiny)["layers"]]
    assert rows(tiny) == {}
    assert rows(tiny, "--all") == {name: ["storage"] for name in names}
    tiny.write("stages/app/app/main.sh", "echo new\n")
    assert list(rows(tiny)) == ["app/app"]
    found = rows(tiny, "--all")
    assert list(found) == names
    changed = found.pop("app/app")
    assert changed[0] == "built"
    assert changed[-2:] == ["stages/app/app/main.sh", "changed"]
    assert {tuple(cells) for cells in found.values()} == {("storage",)}
    assert {cells[0] for cells in rows(tiny, "--all", "--no-import").values()} == {"cache", "built"}


def test_plan_uses_no_network_and_no_unneeded_storage(tiny: Tiny, listener: tuple[int, list[object]]) -> None:
    port, callers = listener
    tiny.replace("pyproject.toml", "[tool.buildkit]", f'[tool.buildkit]\ncache = "127.0.0.1:{port}/cache"')
    proxies = {"http_proxy": f"http://127.0.0.1:{port}", "https_proxy": f"http://127.0.0.1:{port}", "no_proxy": ""}
    assert plan(tiny, "--no-import", **proxies)["layers"]
    assert callers == []
    plan(tiny, "--no-import", "--shared", **proxies)
    assert callers != []


def test_layer_in_storage_of_another_image_is_not_imported(tiny: Tiny) -> None:
    tiny.build("tools")
    planned = plan(tiny)
    assert {layer["source"] for layer in planned["layers"]} == {"cache"}
    assert planned["layers"][0]["import"] == 0
    assert planned["bytes"]["import"] == tiny.build("app").report["bytes"]["imported"] > 0


def test_plan_of_a_push_imports_nothing_that_storage_has(tiny: Tiny, registry: str) -> None:
    tiny.build("app")
    repository = f"{registry}/plan/pushed"
    first = plan(tiny, "--push", repository)
    assert {layer["source"] for layer in first["layers"]} == {"storage"}
    assert first["bytes"]["import"] == 0
    assert first["bytes"]["push"] == sum(path.stat().st_size for path in tiny.cache.glob("sha256/*"))
    pushed = tiny.build("app", "--push", repository)
    assert pushed.report["bytes"]["imported"] == 0
    assert plan(tiny, "--push", repository)["bytes"]["push"] == 0


def test_plan_of_a_push_builds_missing_layers(tiny: Tiny, registry: str) -> None:
    """Storage has the layers, but a push needs the blobs."""
    tiny.build("app")
    for path in tiny.cache.glob("sha256/*"):
        path.unlink()
    planned = plan(tiny, "--push", f"{registry}/plan/lacks")
    assert {layer["source"] for layer in planned["layers"]} == {"built"}
    assert planned["bytes"]["import"] == 0
    assert {layer["source"] for layer in plan(tiny)["layers"]} == {"storage"}


def test_plan_does_not_read_models_again(tiny: Tiny) -> None:
    big = tiny.project / "models/greeter/weights.txt"
    with big.open("wb") as file:
        file.truncate(1 << 40)  # no machine hashes a tebibyte in the time that a test has
    tiny.run("plan", "base")  # makes the ledger
    time.sleep(0.1)  # else the file is as young as its hash, and is read again
    stat = big.stat()
    times = (stat.st_mtime_ns, stat.st_ctime_ns, "0" * 64, time.time_ns())
    with closing(Ledger(tiny.cache / "ledger.sqlite")) as ledger:
        ledger.database.put("files", (stat.st_dev, stat.st_ino, stat.st_size, *times))
    found = plan(tiny)
    (layer,) = [x for x in found["layers"] if x["name"].startswith("models/greeter/")]
    assert 1 << 40 < layer["build"] < (1 << 40) + 10_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ap",), "did you mean app"),
        (("app", "--push", "No/Thing"), "is not a name in a registry"),
        (("--wrong",), "usage"),
    ],
)
def test_wrong_request_is_refused_with_a_hint(tiny: Tiny, arguments: tuple[str, ...], words: str) -> None:
    done = tiny.run("plan", *arguments)
    assert done.code == 2
    assert words in done.text
