"""Expected content of an image and repeated steps, from shortened output of real builders."""

from __future__ import annotations

import pytest

from buildkit.bench.participant import EVERYTHING, Expectation, Step, check_kinds, check_steps
from buildkit.bench.peer_buildah import read_steps as read_buildah
from buildkit.bench.peer_daemon import read_steps as read_buildkit
from buildkit.bench.project_copy import ProjectChange

BUILDAH = """STEP 1/5: FROM 127.0.0.1:5000/bench/root@sha256:00
Trying to pull 127.0.0.1:5000/bench/root...
STEP 2/5: COPY bench/light.txt /opt/locks/light.txt
--> Using cache 0a1b
--> 0a1b
STEP 3/5: RUN --mount=type=bind,source=bench/tools,target=/mnt /mnt/uv pip install -r /opt/locks/light.txt
--> Using cache 0a1c
--> 0a1c
STEP 4/5: COPY models/m1/weights.bin /models/m1/weights.bin
--> 1c2d
STEP 5/5: COPY stages/app/app /app/
COMMIT localhost/bench/app:latest
--> 2d3e
Successfully tagged localhost/bench/app:latest
"""
BUILDKIT = """#1 [internal] load build definition from Containerfile.stages
#5 [venv 1/2] FROM 127.0.0.1:5000/bench/root@sha256:00
#5 DONE 0.0s
#6 [venv 2/2] RUN /mnt/uv venv /opt/venv
#6 CACHED
#9 [light 2/3] COPY bench/light.txt /opt/locks/light.txt
#9 DONE 0.0s
#7 [heavy 2/3] COPY bench/heavy.txt /opt/locks/heavy.txt
#7 CACHED
#8 [heavy 3/3] RUN /mnt/uv pip install -r /opt/locks/heavy.txt
#8 CACHED
#10 [light 3/3] RUN /mnt/uv pip install -r /opt/locks/light.txt
#10 0.4 Installed 33 packages
#10 DONE 0.5s
#12 [stage-3  4/10] COPY --link models/m1/weights.bin /models/m1/weights.bin
#12 CACHED
#11 [stage-3  2/10] COPY --link --from=heavy /out/ /
#11 CACHED
#13 [stage-3  3/10] COPY --link --from=light /out/ /
#13 DONE 0.2s
#14 [stage-3 10/10] COPY --link stages/app/app /app/
#14 DONE 0.1s
#15 exporting to image
"""


def test_buildah_output_is_read_as_instructions() -> None:
    steps = list(read_buildah(BUILDAH))
    assert [step.cached for step in steps] == [True, True, True, False, False]
    assert check_steps(steps, ["models/m1/weights.bin"]) == ""
    assert check_steps(steps, ["stages/app/app"]).startswith("done again without need: COPY models/m1")
    assert check_steps(steps, [EVERYTHING]) == ""


def test_buildkit_output_is_read_by_stage_and_number() -> None:
    steps = list(read_buildkit(BUILDKIT))
    assert [step.text.split()[-1] for step in steps if step.stage == "stage-3"] == [
        "/", "/", "/models/m1/weights.bin", "/app/",
    ]  # fmt: skip
    assert check_steps(steps, ["bench/light.txt"]) == ""
    assert check_steps(steps, ["bench/heavy.txt"]).startswith("done again without need: COPY bench/light.txt")
    assert check_steps(steps, ["stages/app/app"]) != ""


@pytest.mark.parametrize(
    ("text", "path", "named"),
    [
        ("COPY stages/app/app /app/", "stages/app/app/main.py", True),
        ("COPY stages/app/app /app/", "stages/app/apple", False),
        ("RUN --mount=type=bind,source=bench/wheels/light,target=/media x", "bench/wheels/light/a.whl", True),
        ("COPY bench/light.txt /opt/locks/light.txt", "bench/heavy.txt", False),
        ("COPY --link --from=light /out/ /", "bench/heavy.txt", False),
    ],
)
def test_check_steps_finds_instructions_that_read_a_path(text: str, path: str, named: bool) -> None:
    assert (check_steps([Step(text=text, cached=False)], [path]) == "") is named


def test_expectation_keeps_earlier_changes() -> None:
    expected = Expectation()
    expected.add(ProjectChange(files=(("a", "1"), ("b", "2"))))
    expected.add(ProjectChange(files=(("a", "3"),), gone=("old",)))
    assert expected.paths == ("a", "b", "old")
    assert expected.check({"a": "3", "b": "2"}) == ""
    assert expected.check({"a": "1", "b": "2"}) == "/a is not what it should be"
    assert expected.check({"a": "3"}) == "/b is missing"
    assert expected.check({"a": "3", "b": "2", "old": "9"}) == "/old should be gone"


def test_expectation_forgets_removal_of_a_restored_path() -> None:
    expected = Expectation()
    expected.add(ProjectChange(gone=("a",)))
    expected.add(ProjectChange(files=(("a", "1"),)))
    assert expected.check({"a": "1"}) == ""


def test_check_kinds_counts_layers_by_kind() -> None:
    assert check_kinds({"wheels": 1}, {"wheels": 1}) == ""
    assert check_kinds({"wheels": 2, "model": 1}, {"wheels": 1}) == "layers: 1 of wheels too many, 1 of model too many"
    assert check_kinds({}, {"files": 1}) == "layers: 1 of files too few"
