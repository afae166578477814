"""ls and du on a made-up cache: they list every item, and sums agree with the files."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.cache_admin.stocked import Stocked

Ask = Callable[..., Any]
Read = Callable[..., tuple[str, str]]


@pytest.fixture
def varied(stocked: Stocked) -> Stocked:
    """Something of every sort, 64 bytes of blobs and files."""
    stocked.root("base", b"debian and all that", b"python", seconds=12.0)
    stocked.layer("app/app", b"application", seconds=0.5, days=3)
    stocked.layer("other/app", b"application", days=4)
    stocked.layer("app/gone", b"gone")
    stocked.blob(b"gone").unlink()
    stocked.wheel("fast", b"compiled!", seconds=33, days=5)
    stocked.download("x.whl", b"downloaded", days=6)
    stocked.orphan(b"orphan")
    (stocked.cache / "tmp/1-2").write_bytes(b"half")
    return stocked


def test_ls_lists_everything_largest_first(varied: Stocked, ask: Ask) -> None:
    answer = ask("ls")
    assert [(one["name"], one["kind"], one["size"], one["seconds"], one["state"]) for one in answer["things"]] == [
        ("base/image", "image", 25, 12.0, "present"),
        ("app/app", "files", 11, 0.5, "present"),
        ("other/app", "files", 11, 1.0, "present"),
        ("x.whl", "download", 10, 1.0, "present"),
        ("fast-1.0-py3-none-any.whl", "wheel", 9, 33.0, "present"),
        ("app/gone", "files", 0, 1.0, "missing"),
    ]
    assert [one["needed_by"] for one in answer["things"]] == [["base"], [], [], [], [], []]
    assert answer["size"] == 25 + 11 + 10 + 9, "what two have counts once"
    assert "sha256" in answer["things"][3]
    assert answer["things"][0]["key"].startswith("sha256:")


def test_ls_prints_a_table(varied: Stocked, read: Read) -> None:
    out, errors = read("ls")
    lines = out.splitlines()
    assert re.split(r"  +", lines[0]) == ["name", "kind", "size", "built", "used", "rebuild", "needed by"]
    assert re.split(r"  +", lines[1]) == ["base/image", "image", "25 B", "now", "now", "12.0 s", "base"]
    assert re.split(r"  +", lines[2]) == ["app/app", "files", "11 B", "now", "3 d", "0.50 s", "not needed"]
    assert re.split(r"  +", lines[6])[-1] == "missing; not needed"
    assert lines[-1] == "5 items, 55 B, of which 25 B are needed, 1 not here any more"
    assert errors == ""


def test_ls_shows_how_often_an_item_was_built(stocked: Stocked, ask: Ask, read: Read) -> None:
    for _ in range(3):
        stocked.layer("app/app", b"x")
    assert [one["times"] for one in ask("ls")["things"]] == [3]
    assert re.split(r"  +", read("ls")[0].splitlines()[1])[-2] == "3"


def test_ls_filters_by_stage_and_kind(varied: Stocked, ask: Ask, read: Read) -> None:
    assert [one["name"] for one in ask("ls", "app")["things"]] == ["app/app", "app/gone"]
    assert [one["name"] for one in ask("ls", "base")["things"]] == ["base/image"]
    assert [one["name"] for one in ask("ls", "--kind", "wheel")["things"]] == ["fast-1.0-py3-none-any.whl"]
    assert ask("ls", "base", "--kind", "files")["things"] == []
    assert "did you mean base?" in read("ls", "bose", code=2)[1]
    assert "invalid choice: 'cheese'" in read("ls", "--kind", "cheese", code=2)[1]


def test_du_sums_agree_with_the_files(varied: Stocked, ask: Ask, read: Read) -> None:
    (varied.cache / "sha256/README").write_text("mine")
    answer = ask("du")
    assert answer["size"] == sum(len(data) for data in varied.snapshot().values())
    assert answer["stages"] == {"base": {"layers": 1, "missing": 0, "size": 25, "downloads": 0, "alone": 25}}
    assert {kind: (one["things"], one["size"], one["needed"]) for kind, one in answer["kinds"].items()} == {
        "image": (1, 25, 25),
        "files": (2, 11, 0),
        "wheel": (1, 9, 0),
        "download": (1, 10, 0),
    }
    assert answer["not_needed"] == 30
    assert (answer["temporaries"], answer["orphans"], answer["other"], answer["shared"]) == (4, 6, 4, 11)
    parts = ("not_needed", "temporaries", "orphans", "ledger", "other")
    assert answer["size"] == 25 + sum(answer[part] for part in parts)
    out, _ = read("du")
    assert re.search(r"^base +1 +25 B +0 B +25 B$", out, re.MULTILINE)
    assert re.search(r"^files +2 +11 B +0 B +1\.5 s$", out, re.MULTILINE)
    assert "temporary files: 4 B\n" in out
    assert "of the blobs, 11 B belong to several layers\n" in out
    assert out.endswith(f" in {varied.cache}\n")


def test_du_counts_shared_layers_for_no_stage_alone(stocked: Stocked, ask: Ask) -> None:
    path = stocked.project / "stages/above/stage.toml"
    path.parent.mkdir()
    path.write_text('summary = "above"\nfrom = "base"\n')
    stocked.root("base", b"debian")
    answer = ask("du")["stages"]
    assert answer["base"] == answer["above"] == {"layers": 1, "missing": 0, "size": 6, "downloads": 0, "alone": 0}


def test_ls_and_du_of_an_empty_cache(stocked: Stocked, ask: Ask, read: Read) -> None:
    assert ask("ls")["things"] == []
    assert read("ls")[0] == "0 items, 0 B, of which 0 B are needed\n"
    assert ask("du")["kinds"] == {}
    assert read("gc")[0].startswith("nothing to drop; ")
    assert ask("verify")["ok"]


def test_du_without_tools_skips_storage_and_says_so(stocked: Stocked, read: Read) -> None:
    assert "local storage is not looked at: buildah or skopeo is not installed" in read("gc")[1]
