"""`[gpu]` of a stage and of a service: what is asked, every mistake at its key, and who inherits it."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest

from buildkit.declare.gpu_request import NO_GPU, GpuRequest, MpsLimits, parse_size
from buildkit.declare.graph import make_graph
from buildkit.declare.services_file import parse_services, services_schema
from buildkit.declare.stage_file import parse_stage, stage_schema
from buildkit.errors import DefinitionError

GPU, MIG = (f"{kind}-12345678-9abc-def0-1234-56789abcdef0" for kind in ("GPU", "MIG"))
STAGE = jsonschema.Draft202012Validator(stage_schema())
SERVICES = jsonschema.Draft202012Validator(services_schema())
FULL = """
count = 2
memory = "16g"
capability = "8.0"
driver = ">=570,<600"
share = "mps"
optional = true
mps = { threads = 50, memory = "8g" }
"""
WANTED = GpuRequest(
    count=2, memory="16g", capability="8.0", driver=">=570,<600", share="mps", optional=True,
    mps=MpsLimits(threads=50, memory="8g"),
)  # fmt: skip
# text, key below `gpu`, words of the problem and its hint
BAD = {
    "unknown key": ("counts = 1", ".counts", "did you mean `count`?"),
    "count with devices": ('count = 1\ndevices = ["0"]', ".count", "conflicts with `devices`"),
    "no GPU": ("count = 0", ".count", "0 is not between 1 and 64"),
    "negative": ("count = -1", ".count", "-1 is not between 1 and 64"),
    "a count in quotes": ('count = "2"', ".count", "must be a whole number or `all`, not `2`"),
    "a count of another type": ("count = true", ".count", "must be a whole number, not true or false"),
    "no devices": ("devices = []", ".devices", "needs at least 1 item"),
    "a short UUID": ('devices = ["GPU-5c1b"]', ".devices[0]", "a UUID is written in full"),
    "a UUID in capitals": (f'devices = ["{GPU.upper()}"]', ".devices[0]", "is not a GPU"),
    "podman's name": (f'devices = ["nvidia.com/gpu={GPU}"]', ".devices[0]", f"did you mean `{GPU}`?"),
    "all as a device": ('devices = ["all"]', ".devices[0]", 'write `count = "all"`'),
    "an index as a number": ("devices = [0]", ".devices[0]", "must be a string, not a whole number"),
    "a device twice": ('devices = ["0", "1", "0"]', ".devices", "has 0 twice"),
    "gigabytes": ('memory = "16GB"', ".memory", "did you mean `16g`?"),
    "half of a unit": ('memory = "1.5g"', ".memory", "is not a size"),
    "capability as a number": ("capability = 8.0", ".capability", "must be a string"),
    "an architecture": ('capability = "sm_80"', ".capability", "is not a compute capability"),
    "a driver without a sign": ('driver = "570"', ".driver", "did you mean `>=570`?"),
    "a driver range of Python": ('driver = "~=570.1"', ".driver", "is not a version range"),
    "another share": ('share = "timeslice"', ".share", "did you mean `time-slice`?"),
    "MPS without MPS": ("mps = { threads = 50 }", ".mps", 'add share = "mps"'),
    "more than all threads": ('share = "mps"\nmps = { threads = 101 }', ".mps.threads", "between 1 and 100"),
    "MPS on a MIG device": (f'share = "mps"\ndevices = ["{MIG}"]', ".devices", "MPS does not share"),
    "another word": ('gpu = "all"', "", "must be a table or `none`, not `all`"),
}  # fmt: skip
READER_ONLY = {"a device twice", "MPS on a MIG device"}


def stage_text(text: str, *more: str) -> str:
    table = text if text.startswith("gpu =") else f"[gpu]\n{text}\n"
    return "\n".join(('summary = "x"', *more, table))


def service_text(text: str) -> str:
    table = text if text.startswith("gpu =") else f"[services.app.gpu]\n{text}\n"
    return f'[services.app]\nstage = "app"\n{table}\n[environments.e]\nservices = ["app"]\n'


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("", GpuRequest()),
        (FULL, WANTED),
        ('count = "all"', GpuRequest(count=0)),
        (f'devices = ["{GPU}", "{MIG}", "MIG-{GPU}/1/0", "0", "1:0"]',
         GpuRequest(devices=(GPU, MIG, f"MIG-{GPU}/1/0", "0", "1:0"))),
        ('gpu = "none"', NO_GPU),
    ],
)  # fmt: skip
def test_stage_and_service_ask_in_the_same_words(text: str, request_: GpuRequest) -> None:
    assert parse_stage(stage_text(text), name="x", file="x").gpu == request_
    assert parse_services(service_text(text), stages=("app",)).services[0].gpu == request_
    STAGE.validate(tomllib.loads(stage_text(text)))
    SERVICES.validate(tomllib.loads(service_text(text)))


@pytest.mark.parametrize("case", BAD)
def test_each_mistake_of_a_request_is_reported_at_its_key(case: str) -> None:
    text, key, words = BAD[case]
    with pytest.raises(DefinitionError) as of_stage:
        parse_stage(stage_text(text), name="x", file="x")
    with pytest.raises(DefinitionError) as of_service:
        parse_services(service_text(text), stages=("app",))
    for caught, place in ((of_stage, "gpu"), (of_service, "services.app.gpu")):
        (problem,) = caught.value.problems
        assert problem.key == f"{place}{key}"
        assert words in f"{problem.what} {problem.hint}"
    for validator, whole in ((STAGE, stage_text(text)), (SERVICES, service_text(text))):
        assert validator.is_valid(tomllib.loads(whole)) is (case in READER_ONLY)


def test_request_is_that_of_the_nearest_stage_and_none_ends_it() -> None:
    texts = {
        "base": stage_text("count = 2"),
        "same": 'summary = "x"\nfrom = "base"\n',
        "other": stage_text("capability = '9.0'", 'from = "base"'),
        "without": stage_text('gpu = "none"', 'from = "base"'),
    }
    graph = make_graph({name: parse_stage(text, name=name, file=name) for name, text in texts.items()})
    assert {name: graph.resolve(name).gpu for name in texts} == {
        "base": GpuRequest(count=2),
        "same": GpuRequest(count=2),
        "other": GpuRequest(capability="9.0"),
        "without": None,
    }


@pytest.mark.parametrize(("text", "size"), [("7", 7), ("3k", 3072), ("2m", 2 << 20), ("16g", 16 << 30)])
def test_size_is_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_variable_of_the_older_runtime_is_refused_where_gpus_are_asked_for() -> None:
    key, words = "NVIDIA_VISIBLE_DEVICES", "podman hands GPUs over by CDI"
    with pytest.raises(DefinitionError) as caught:
        parse_stage(stage_text("count = 1") + f'[config]\nenv = {{ {key} = "all" }}\n', name="x", file="x")
    assert [(one.key, words in one.what) for one in caught.value.problems] == [(f"config.env.{key}", True)]
    with pytest.raises(DefinitionError) as caught:
        parse_services(
            service_text("").replace("[services.app.gpu]", f'env.{key} = "0"\n[services.app.gpu]'), stages=("app",)
        )
    assert [(one.key, words in one.what) for one in caught.value.problems] == [(f"services.app.env.{key}", True)]
    assert parse_stage(f'summary = "x"\n[config]\nenv = {{ {key} = "all" }}\n', name="x", file="x").gpu is None
