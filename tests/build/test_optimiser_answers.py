"""What a script in the optimiser's container may write in place of answers: it is refused in one line."""

import io
import json

import pytest

from buildkit.build.derive import DeriveJob, measure, read_report
from buildkit.build.optimiser import Optimiser
from buildkit.digest import FileHash
from buildkit.errors import BuildError
from buildkit.locks.derivation import Derivation
from buildkit.locks.model_source import DerivedSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.derive_report import DeriveReport

DERIVATION = Derivation(of="vad", tool="derive/own.py:main")
MADE = ModelFile(path="m.onnx", sha256=FileHash("0" * 64), size=3, source="")
FILE = {"path": "m.onnx", "size": 3, "sha256": "0" * 64}


def answering(line: bytes) -> Optimiser:
    return Optimiser(io.BytesIO(), io.BytesIO(line + b"\n"))


def derive(answer: object) -> object:
    line = json.dumps(answer).encode()
    return answering(line).derive(DERIVATION, name="x", source="/mnt/models/source", data="")


def test_an_answer_that_says_what_was_made_is_returned() -> None:
    answer = {"files": [FILE], "ranges": {"x": [-1.0, 2]}}
    assert derive(answer) == answer


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"files": [FILE]},
        {"files": [FILE], "ranges": []},
        {"files": [FILE], "ranges": {"x": [1, 2, 3]}},
        {"files": [FILE], "ranges": {"x": [float("nan"), 2]}},
        {"files": [FILE], "ranges": {"x": ["1", "2"]}},
        {"files": [FILE | {"size": -1}], "ranges": {}},  # reading -1 bytes would be reading without end
        {"files": [FILE | {"size": "3"}], "ranges": {}},
        {"files": [FILE | {"size": 3.5}], "ranges": {}},
        {"files": [FILE | {"size": float("inf")}], "ranges": {}},
        {"files": [FILE | {"path": 3}], "ranges": {}},
        {"files": ["m.onnx"], "ranges": {}},
        {"files": 3, "ranges": {}},
    ],
)
def test_an_answer_that_does_not_is_refused(answer: object) -> None:
    with pytest.raises(BuildError, match=r"^the optimiser does not say what it made$"):
        derive(answer)


@pytest.mark.parametrize("line", [b"[" * 200_000, b"[]", b"\xff", b"null"])
def test_what_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(BuildError, match=r"^the optimiser's answer is not JSON$"):
        answering(line).ask("about")


@pytest.mark.parametrize("models", [None, [], {"": {}}, {"": {}, "x": 3}])
def test_figures_that_lack_a_model_are_refused(models: object) -> None:
    source = Model(name="vad", version="1", source=DerivedSource(of="x"), license="MIT", files=())
    job = DeriveJob(name="x", derivation=DERIVATION, source=source)
    optimiser = answering(json.dumps({"models": models}).encode())
    with pytest.raises(BuildError, match=r"^the optimiser does not say what it measured$"):
        measure(job, optimiser, {"source": "/mnt/models/source"}, {"x": "/made/x"})


FOUND = {"processor": "x", "threads": 1, "versions": {}}


def reported(found: dict[str, object], **models: object) -> DeriveReport:
    source = Model(name="vad", version="1", source=DerivedSource(of="x"), license="MIT", files=(MADE, MADE))
    job = DeriveJob(name="x", derivation=DERIVATION, source=source)
    return read_report(job, (MADE,), {"models": {"": {}, "x": {}} | models, **FOUND, **found}, "x")


def test_the_bytes_of_a_model_are_counted_and_not_told() -> None:
    report = reported({}, x={"size": 1})
    assert (report.source.size, report.derived.size) == (6, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threads": float("inf")},
        {"versions": []},
        {"models": {"": {}, "x": {"metric": 10**400}}},
        {"models": {"": {}, "x": {"metric": float("inf")}}},
        {"models": {"": {}, "x": {"metric": True}}},
        {"models": {"": {}, "x": {"quantised": "Conv"}}},
        {"models": {"": {}, "x": {"operators": {"Conv": "6"}}}},
        {"models": {"": {}, "x": {"other": 1}}},
    ],
)
def test_figures_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BuildError, match="the optimiser's figures cannot be read"):
        reported(wrong)
