"""The report: its JSON, the table and the last line."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from buildkit.report.build_report import LayerLine, Report, print_report, print_timings, render_last_line, render_next
from buildkit.tools.usage import ResourceUsage, WorkCost

BUILT = LayerLine(
    name="runtime/app",
    kind="files",
    key="sha256:k",
    diff_id="sha256:i",
    digest="sha256:d",
    size=21_400,
    source="built",
    seconds=0.12345,
    why="main.py changed",
)
REUSED = replace(BUILT, name="ml-deps/torch", kind="wheels", size=900_000_000, source="storage", seconds=0.0, why="")
REPORT = Report(
    stage="runtime",
    image="localhost/xoe/runtime:latest",
    digest="sha256:m",
    seconds=1.23456,
    phases={
        "plan": WorkCost(seconds=0.02049, usage=ResourceUsage(0.0101, 5, 6)),
        "assemble": WorkCost(seconds=0.01),
    },
    layers=(REUSED, replace(REUSED, source="cache"), BUILT),
    fetched=5_000_000,
    built=21_400,
    imported=70_000,
    is_new=True,
)


def test_json_of_a_report_matches_the_documented_form() -> None:
    layers = [
        {"name": "ml-deps/torch", "kind": "wheels", "key": "sha256:k", "diff_id": "sha256:i", "digest": "sha256:d",
         "size": 900_000_000, "source": source, "seconds": 0.0, "why": ""}
        for source in ("storage", "cache")
    ]  # fmt: skip
    built = {"name": "runtime/app", "kind": "files", "key": "sha256:k", "diff_id": "sha256:i", "digest": "sha256:d",
             "size": 21_400, "source": "built", "seconds": 0.123, "why": "main.py changed"}  # fmt: skip
    found = REPORT.as_json()
    assert found == {
        "stage": "runtime",
        "image": "localhost/xoe/runtime:latest",
        "digest": "sha256:m",
        "delivery": "import",
        "seconds": 1.235,
        "phases": {"assemble": 0.01, "plan": 0.02},
        "timings": {
            "assemble": {"seconds": 0.01, "cpu": 0.0, "read": 0, "written": 0},
            "plan": {"seconds": 0.02, "cpu": 0.01, "read": 5, "written": 6},
        },
        "layers": [*layers, built],
        "bytes": {"fetched": 5_000_000, "built": 21_400, "imported": 70_000, "pushed": 0},
        "pushed": [],
    }
    assert list(found) == [
        "stage", "image", "digest", "delivery", "seconds", "phases", "timings", "layers", "bytes", "pushed",
    ]  # fmt: skip
    pushed = replace(REPORT, pushed=7, pushed_as={"r.io/a:1": "sha256:p"}).as_json()
    assert pushed["bytes"]["pushed"] == 7
    assert pushed["pushed"] == [{"ref": "r.io/a:1", "digest": "sha256:p"}]
    assert list(found["phases"]) == ["assemble", "plan"]
    assert json.loads(json.dumps(found)) == found


PUSHED = "\npushed r.io/a:1@sha256:p\npushed r.io/a:2@sha256:p"
IMAGE = "\nlocalhost/xoe/runtime:latest\nsha256:m"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "runtime: 1 built, 2 reused (1.8 GB), 5.0 MB fetched, 70.0 kB imported, 1.2 s"),
        (
            {
                "pushed": 9000,
                "pushed_as": {"r.io/a:1": "sha256:p", "r.io/a:2": "sha256:p"},
                "imported": 0,
                "delivery": "",
                "is_new": False,
            },
            "runtime: 1 built, 2 reused (1.8 GB), 5.0 MB fetched, 9.0 kB pushed, 1.2 s" + PUSHED,
        ),
        (
            {
                "pushed": 9000,
                "pushed_as": {"r.io/a@sha256:p": "sha256:p"},
                "imported": 0,
                "delivery": "",
                "is_new": False,
            },
            "runtime: 1 built, 2 reused (1.8 GB), 5.0 MB fetched, 9.0 kB pushed, 1.2 s\npushed r.io/a@sha256:p",
        ),
        (
            {"layers": (REUSED,), "fetched": 0, "built": 0, "imported": 0, "is_new": False},
            "runtime: nothing changed, 1 reused (900 MB), nothing imported, 1.2 s",
        ),
        (
            {"layers": (REUSED,), "fetched": 0, "built": 0},
            "runtime: nothing to build, 1 reused (900 MB), 70.0 kB imported, 1.2 s",
        ),
        (
            {"layers": (BUILT,), "fetched": 0, "imported": 0},
            "runtime: 1 built, 0 reused (0 B), nothing imported, 1.2 s",
        ),
        (
            {"layers": (BUILT,), "imported": 0, "delivery": "store"},
            "runtime: 1 built, 0 reused (0 B), 5.0 MB fetched, 1.2 s",
        ),
        (
            {"layers": (REUSED,), "fetched": 0, "delivery": "store"},
            "runtime: nothing to build, 1 reused (900 MB), 70.0 kB unpacked, 1.2 s",
        ),
        (
            {"layers": (REUSED,), "fetched": 0, "delivery": "docker"},
            "runtime: nothing to build, 1 reused (900 MB), 70.0 kB loaded, 1.2 s",
        ),
    ],
)
def test_last_line_summarizes_the_build(changes: dict[str, object], line: str) -> None:
    assert render_last_line(replace(REPORT, **changes)) == (line if changes.get("delivery") == "" else line + IMAGE)  # type: ignore[arg-type]


def test_last_line_says_that_an_image_was_not_delivered() -> None:
    report = replace(REPORT, layers=(REUSED,), fetched=0, imported=0, delivery="", is_new=False)
    first, *rest = render_last_line(report).splitlines()
    assert first == "runtime: nothing changed, 1 reused (900 MB), 1.2 s"
    assert rest == ["not delivered as localhost/xoe/runtime:latest", "sha256:m"]


def test_report_prints_built_layers_in_a_table_above_the_last_line() -> None:
    out = io.StringIO()
    print_report(REPORT, out)
    text = out.getvalue()
    assert text.startswith("runtime: built")
    row = next(line for line in text.splitlines() if "runtime/app" in line)
    assert [part.strip() for part in row.split("  ") if part.strip()] == [
        "runtime/app", "21.4 kB", "0.12 s", "main.py changed",
    ]  # fmt: skip
    assert REUSED in REPORT.layers
    assert REUSED.name not in text
    assert text.endswith(render_last_line(REPORT) + "\n")


def test_report_prints_no_table_if_nothing_was_built() -> None:
    out = io.StringIO()
    report = replace(REPORT, layers=(REUSED,))
    print_report(report, out)
    assert out.getvalue() == render_last_line(report) + "\n"


def test_timings_table_has_the_longest_phase_first() -> None:
    out = io.StringIO()
    print_timings(REPORT, out)
    rows = [line.split() for line in out.getvalue().splitlines() if line.strip()]
    assert rows[0] == ["runtime:", "timings"]
    assert rows[1] == ["phase", "seconds", "cpu", "read", "written"]
    assert rows[2:] == [
        ["plan", "0.02", "s", "0.01", "s", "5", "B", "6", "B"],
        ["assemble", "0.01", "s", "0.00", "s", "0", "B", "0", "B"],
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ([{"starts": True, "delivery": "store"}], "run it: nox -s run-runtime"),
        ([{}, {"starts": True, "stage": "other"}], "run it: nox -s run-other"),
        ([{"starts": True, "is_new": False}], ""),
        ([{"starts": True, "delivery": ""}], ""),
        ([], ""),
    ],
)
def test_next_command_runs_the_first_new_image_that_has_a_command(changes: list[dict[str, object]], line: str) -> None:
    assert render_next([replace(REPORT, **change) for change in changes]) == line  # type: ignore[arg-type]
