"""Ensembles: their tensors from those of their models, and every way in which a wiring can be wrong."""

from __future__ import annotations

import pytest

from buildkit.errors import DefinitionError
from buildkit.triton.files import repository_files
from buildkit.triton.read_config import read_config
from tests.triton.graphs import FLOAT, INT64, locked, make_graph
from tests.triton.test_generated_config import FILE, graphs_for, make

LOCK = {model.name: model for model in (locked("pre", "p.onnx"), locked("vad", "v.onnx"))}
MODELS = """
[[serve.model]]
name = "pre"
versions = { 1 = "pre" }
max-batch = 8
[[serve.model]]
name = "vad"
versions = { 1 = "vad", 2 = "vad" }
max-batch = 4
policy = { latest = 1 }
"""
BOTH = (
    MODELS
    + """
[[serve.ensemble]]
name = "speech"
[[serve.ensemble.step]]
model = "pre"
input = { raw = "AUDIO" }
output = { clean = "middle" }
[[serve.ensemble.step]]
model = "vad"
version = 2
input = { audio = "middle" }
output = { speech = "SPEECH" }
"""
)
PRE = make_graph({"raw": (INT64, ["n", 576])}, {"clean": (FLOAT, ["n", 576])})
VAD = make_graph({"audio": (FLOAT, ["n", 576])}, {"speech": (FLOAT, ["n", 2])})
WRITTEN = """\
platform: "ensemble"
input { name: "AUDIO" data_type: TYPE_INT64 dims: [576] }
output { name: "SPEECH" data_type: TYPE_FP32 dims: [2] }
max_batch_size: 4
ensemble_scheduling {
  step { model_name: "pre" model_version: -1
    input_map { key: "raw" value: "AUDIO" }
    output_map { key: "clean" value: "middle" } }
  step [ { model_name: "vad" model_version: 2
    input_map { key: "audio" value: "middle" }
    output_map { key: "speech" value: "SPEECH" } } ]
}
"""
BY_HAND = MODELS + '[[serve.model]]\nname = "speech"\nconfig = "serving/speech.pbtxt"\n'


def files_of(text: str, written: str = "") -> dict[str, str | None]:
    repository = make(text, lock=LOCK, texts={"serving/speech.pbtxt": written} if written else None)
    graphs = {key: PRE if key[0] == "pre" else VAD for key in graphs_for(repository)}
    return repository_files(repository, graphs)


def refused(text: str, written: str = "") -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        files_of(text, written)
    return [str(problem) for problem in caught.value.problems]


def test_tensors_and_batches_follow_from_the_steps() -> None:
    files = files_of(BOTH)
    assert files["speech/1"] is None, "an ensemble needs the folder of a version"
    config = read_config(str(files["speech/config.pbtxt"]), "c", "speech").config
    assert [(one.name, one.type, one.dims) for one in config.inputs] == [("AUDIO", "TYPE_INT64", (576,))]
    assert [(one.name, one.type, one.dims) for one in config.outputs] == [("SPEECH", "TYPE_FP32", (2,))]
    assert config.max_batch == 4
    plain = read_config(str(files_of(BOTH.replace("max-batch = 8\n", ""))["speech/config.pbtxt"]), "c", "s").config
    assert (plain.max_batch, plain.inputs[0].dims, plain.outputs[0].dims) == (0, (-1, 576), (-1, 2))
    every = BOTH.replace('name = "speech"\n', 'name = "speech"\noutput = ["SPEECH", "middle"]\n')
    assert [one.name for one in read_config(str(files_of(every)["speech/config.pbtxt"]), "c", "s").config.outputs] == [
        "SPEECH", "middle",
    ]  # fmt: skip


WRONG = {
    "unknown model": ('model = "pre"', 'model = "prre"', "there is no model `prre` (did you mean `pre`?)"),
    "version": ("version = 2", "version = 1", "version 1 of `vad` is not served (it has 2; -1 is the latest)"),
    "itself": ('model = "pre"', 'model = "speech"', "in a circle: speech → speech"),
    "no such input": ("{ raw =", "{ row =", "`pre` has no tensor `row` there (did you mean `raw`?)"),
    "no such output": ("{ clean =", "{ klean =", "`pre` has no tensor `klean` there"),
    "missing input": ('input = { raw = "AUDIO" }', "input = {}", "lacks `raw`, which `pre` takes"),
    "made twice": ('speech = "SPEECH"', 'speech = "middle"', "`middle` is made by two steps, 0 and 1"),
    "circle of data": ('raw = "AUDIO"', 'raw = "SPEECH"', "steps wait for each other's tensors in a circle: pre, vad"),
    "output of nobody": (
        'name = "speech"\n',
        'name = "speech"\noutput = ["NONE"]\n',
        "no step makes `NONE` (they make SPEECH, middle)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_wiring_names_the_ensemble_and_what_is_right(case: str) -> None:
    before, after, says = WRONG[case]
    found = refused(BOTH.replace(before, after, 1))
    assert any(one.startswith(f"{FILE}: `serve.ensemble speech") and says in one for one in found), found


def test_tensors_between_steps_must_be_of_one_type_and_shape() -> None:
    text = BOTH.replace('raw = "AUDIO"', 'raw = "A"').replace('model = "pre"\ninput', 'model = "vad"\ninput')
    swapped = text.replace("raw =", "audio =").replace("clean =", "speech =")
    assert any(
        "`middle` is [-1, 2] as `speech` of `vad`, and [-1, 576] as `audio` of `vad`" in one for one in refused(swapped)
    )


def test_ensembles_may_contain_ensembles_but_no_circle() -> None:
    step = '{ model = "speech", input = { AUDIO = "A" }, output = { SPEECH = "S" } }'
    outer = f'[[serve.ensemble]]\nname = "outer"\nstep = [{step}]\n'
    config = read_config(str(files_of(outer + BOTH)["outer/config.pbtxt"]), "c", "outer").config
    assert ([one.name for one in config.inputs], config.max_batch) == (["A"], 4)
    circle = BOTH.replace('model = "pre"\ninput = { raw', 'model = "outer"\ninput = { A').replace("clean =", "S =")
    assert any("circle: outer → speech → outer" in one for one in refused(outer + circle))


def test_an_ensemble_by_hand_may_contain_one_that_is_generated() -> None:
    text = BOTH + '[[serve.model]]\nname = "outer"\nconfig = "serving/speech.pbtxt"\n'
    steps = (
        'ensemble_scheduling { step { model_name: "speech" model_version: -1 input_map { key: "AUDIO" value: "AUDIO" }'
        ' output_map { key: "SPEECH" value: "SPEECH" } } }'
    )
    written = WRITTEN.partition("ensemble_scheduling")[0] + steps
    assert files_of(text, written)["outer/1"] is None
    assert any("`AUDIO` is TYPE_INT32" in one for one in refused(text, written.replace("INT64", "INT32")))
    assert any("`pre` has no tensor `row`" in one for one in refused(text.replace("{ raw =", "{ row ="), written))


@pytest.mark.parametrize("steps", [1, 2])
def test_ensembles_within_ensembles_cost_no_more_than_their_number(steps: int) -> None:
    text = MODELS
    for number in range(60 if steps > 1 else 1200):
        inner = f"e{number - 1}" if number else "vad"
        step = ", ".join(
            f'{{ model = "{inner}", input = {{ audio = "a{n}" }}, output = {{ speech = "s{n}" }} }}'
            for n in range(steps)
        )
        text += f'[[serve.ensemble]]\nname = "e{number}"\nstep = [{step}]\n'
    assert not [one for one in refused(text) if "circle" in one]


WRITTEN_WRONG = {
    "type": (
        "TYPE_INT64",
        "TYPE_INT32",
        ":7: ",
        "`AUDIO` is TYPE_INT32 as the ensemble, and TYPE_INT64 as `raw` of `pre`",
    ),
    "shape": ("dims: [576]", "dims: [575]", ":7: ", "`AUDIO` is [-1, 575]"),
    "unused": (
        'input { name: "AUDIO"',
        'input { name: "AUDI"',
        ":2: `input[0].name`: no step takes `AUDI`",
        "did you mean `AUDIO`?",
    ),
    "fed by nobody": ('value: "AUDIO"', 'value: "AUDOI"', ":7: ", "nothing makes `AUDOI`"),
    "not returned": (
        'output { name: "SPEECH"',
        'output { name: "SPEECHES"',
        ":3: `output[0].name`: no step makes `SPEECHES`",
        "did you mean `SPEECH`?",
    ),
    "batch": (
        "max_batch_size: 4",
        "max_batch_size: 5",
        ":4: `max_batch_size`: 5 is more than `vad` takes, 4",
        "write 4",
    ),
    "instances": (
        "max_batch_size: 4",
        "max_batch_size: 4 instance_group { count: 1 }",
        ":4: `instance_group`: is not for an ensemble",
        "for its models",
    ),
    "batching": (
        "max_batch_size: 4",
        "max_batch_size: 4 model_warmup { name: 'w' }",
        ":4: `model_warmup[0]`: is not for an ensemble",
        "",
    ),
    "version": ("model_version: 2", "model_version: 3", ":9: ", "version 3 of `vad` is not served"),
}


@pytest.mark.parametrize("case", WRITTEN_WRONG)
def test_a_wiring_by_hand_names_the_line(case: str) -> None:
    before, after, place, says = WRITTEN_WRONG[case]
    found = refused(BY_HAND, WRITTEN.replace(before, after, 1))
    assert any(f"serving/speech.pbtxt{place}" in one and says in one for one in found), found


def test_a_wiring_by_hand_is_kept() -> None:
    assert files_of(BY_HAND, WRITTEN)["speech/config.pbtxt"] == WRITTEN
