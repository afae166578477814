"""Derived models in models files and locks."""

import pytest

from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.locks.derivation import sort_requests
from buildkit.locks.model_source import DerivedSource
from buildkit.locks.models_lock import (
    parse_models_file,
    parse_models_lock,
    render_models_lock,
)

FILE = "requirements/models.toml"
MODEL = '[[model]]\nname = "vad"\nsource = "path:models/vad"\n'
GATE = '[derive.gate]\ndata = "path:evaluation"\nmetric = "evaluation/accuracy.py:f1"\nmax-loss = 0.01\n'


def derive(name="int8", of="vad", tool="onnx-quantise-dynamic", more="", gate=GATE):
    return f'[[derive]]\nname = "{name}"\nfrom = "{of}"\ntool = "{tool}"\n{more}{gate}'


def problems_of(text):
    with pytest.raises(DefinitionError) as caught:
        parse_models_file(text, FILE)
    return [str(problem) for problem in caught.value.problems]


def test_request_is_read_with_its_gate_and_options():
    (request,) = parse_models_file(MODEL + derive(more='options = { "weight-type" = "QUInt8" }\n'), FILE).derived
    derivation = request.derivation
    assert (request.name, derivation.of, derivation.stage) == ("int8", "vad", "optimiser")
    assert derivation.settings == {"weight-type": "QUInt8"}
    assert (derivation.gate.data, derivation.gate.max_loss, derivation.gate.better) == (
        "path:evaluation",
        0.01,
        "higher",
    )
    assert derivation.scripts == ("evaluation/accuracy.py:f1",)
    assert [model.name for model in parse_models_file(MODEL + derive(), FILE).models] == ["vad"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (derive(of="vda"), "there is no model `vda` (did you mean `vad`?)"),
        (derive(name="vad"), "is listed twice"),
        (derive(name="a", of="b") + derive(name="b", of="a"), "is a circle: a → b → a"),
        (derive(name="a", of="a"), "is a circle: a → a"),
        (derive(tool="onnx-quantize-dynamic"), "did you mean `onnx-quantise-dynamic`?"),
        (derive(more="options = { per_channel = true }\n"), "did you mean `per-channel`?"),
        (derive(more='options = { "weight-type" = "int8" }\n'), "`int8` is none of QInt8, QUInt8"),
        (derive(tool="onnx-optimise", more='options = { level = "all" }\n'), "its bytes depend on the processor"),
        (derive(tool="a\\n/../../x.py:f"), "is not a tool"),
        (derive(more='options = { file = "\\n/../x" }\n'), "is not a path in the model"),
        (derive(tool="torch-to-onnx", gate=""), "name the function that returns (module, arguments)"),
        (derive(gate='[derive.gate]\nmetric = "a.py:f"\nmax-loss = 0\n'), "gate.data`: is missing: `metric` needs it"),
        (derive(gate='[derive.gate]\ndata = "path:x"\nmax-loss = 0\n'), "gate.metric`: is missing: `data` needs it"),
        (derive(tool="onnx-optimise", gate="[derive.gate]\nmax-latency = 1\n"), "max-latency`: needs `data` and"),
        (derive(gate=""), "onnx-quantise-dynamic may ruin a model: it needs `data`, `metric` and `max-loss`"),
        (derive(gate=GATE.replace("path:evaluation", "clips")), "there is no model `clips`"),
        (derive(gate=GATE.replace("path:evaluation", "path:../x")), "is not `path:FOLDER` or the name of a model"),
        (derive(gate=GATE.replace("evaluation/accuracy.py:f1", "accuracy.f1")), "is not a function of a script"),
        (derive(gate=GATE.replace("0.01", "nan")), "nan is not between"),
        (derive(more='stages = "x"\n'), "did you mean `stage`?"),
        (MODEL.replace("path:models/vad", "derive:vad").replace("vad", "w", 1), "is not"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_message(text, said):
    found = problems_of(MODEL + text)
    assert any(said in problem for problem in found), found
    assert len(found) <= 2, found


def test_circle_of_three_is_told_for_its_members_alone():
    ring = derive(name="a", of="b") + derive(name="b", of="c") + derive(name="c", of="a") + derive(name="d", of="a")
    assert len(problems_of(MODEL + ring)) == 3


def test_requests_come_after_what_they_are_made_of():
    text = MODEL + derive(name="c", of="b") + derive(name="b", of="a") + derive(name="a")
    assert [one.name for one in sort_requests(parse_models_file(text, FILE).derived)] == ["a", "b", "c"]


LOCK = f"""# buildkit inputs sha256:{"1" * 64}
# Made by `nox -s lock`: models, their files and hashes.

[[model]]
name = "int8"
version = "6"
source = "derive:vad"
license = "MIT"
request = "{"2" * 64}"

[[model.file]]
path = "m.onnx"
sha256 = "{"3" * 64}"
size = 7
source = ""

[model.derived]
tool = "onnx-quantise-static"
stage = "optimiser"

[model.derived.options]
operators = ["Conv"]

[model.derived.gate]
data = "path:evaluation"
metric = "evaluation/accuracy.py:f1"
max-loss = 0.01

[model.derived.report]
metric = "0.9794"
size = "0.583"

[model.derived.ranges]
"/a b/\\"Relu\\"" = [0.0, 8.89]
x = [-1e-30, 1.2e-05]
"""


def test_lock_is_rendered_as_it_was_read():
    lock = parse_models_lock(LOCK, "x")
    (model,) = lock.models
    assert model.source == DerivedSource(of="vad")
    assert lock.requests == (FileHash("2" * 64),)
    assert model.derivation.ranges[1] == ("x", (-1e-30, 1.2e-05))
    assert dict(model.derivation.report)["metric"] == "0.9794"
    assert render_models_lock(lock) == LOCK
    assert parse_models_lock(render_models_lock(lock), "x") == lock


def test_derived_source_and_table_belong_together():
    with pytest.raises(DefinitionError, match="belongs to a source"):
        parse_models_lock(LOCK.replace("derive:vad", "path:models/vad"), "x")
    with pytest.raises(DefinitionError, match="belongs to a source"):
        parse_models_lock(LOCK[: LOCK.index("[model.derived]")], "x")


@pytest.mark.parametrize("ends", ["[1.0]", "[1.0, 2.0, 3.0]", "[1.0, nan]", "1.0", '["a", "b"]'])
def test_a_range_in_a_lock_is_two_finite_numbers(ends):
    with pytest.raises(DefinitionError, match=r"derived\.ranges\.x"):
        parse_models_lock(LOCK.replace("[-1e-30, 1.2e-05]", ends), "x")
