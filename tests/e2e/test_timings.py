"""Durations of builds: printed by `--timings`, recorded, and listed by `nox -s timings`."""

from __future__ import annotations

import json

import pytest

from tests.e2e.tinyproject import Tiny

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("imports")]


def test_timings_lists_recorded_builds_by_phase(tiny: Tiny) -> None:
    assert "no build of these stages is on record" in tiny.run("timings").text
    first = tiny.build("app", "--timings")
    assert "app: timings" in first.text
    timings = first.report["timings"]
    assert {"plan", "fetch", "pull", "pack", "compress", "assemble", "import"} <= set(timings)
    assert first.report["phases"] == {name: spent["seconds"] for name, spent in timings.items()}
    assert timings["fetch"]["read"] >= first.report["bytes"]["fetched"]
    packed = [x for x in first.report["layers"] if x["source"] == "built" and x["kind"] != "image"]
    assert timings["compress"]["written"] == sum(layer["size"] for layer in packed)
    assert timings["import"]["cpu"] > 0  # skopeo's, for we do next to nothing there

    tiny.build("app")  # nothing to do: nothing to remember
    tiny.build("tools")
    tiny.replace("stages/app/app/words.txt", "w", "W")
    second = tiny.build("app")
    assert "timings" not in second.text

    text = tiny.run("timings", "--json").text
    builds, _ = json.JSONDecoder().raw_decode(text[text.index("[\n") :])
    assert [build["stage"] for build in builds] == ["app", "tools", "app"]
    assert [(build["built"], build["reused"]) for build in builds if build["stage"] == "app"] == [(9, 0), (1, 8)]
    assert builds[-1]["timings"] == second.report["timings"]
    assert {"run", "commit"} <= set(builds[1]["timings"])
    shown = tiny.run("timings", "app", "--last", "1").text
    assert shown.count("app ") == 1
    assert "tools" not in shown
    assert "slowest phases" in shown
    assert tiny.run("timings", "ap").code == 2
