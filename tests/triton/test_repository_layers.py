"""The layers of a model repository: what they share, what moves which key, and what is in the small one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace

import pytest

from buildkit.build.serving import graphs_of, members_of_serving
from buildkit.digest import FileHash
from buildkit.errors import BuildError, DefinitionError, MismatchError
from buildkit.layers.files import CHUNK
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.writer import write_layer
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Kind, PackModel, PackServing, Spec
from tests.plan.planfakes import FakeCheckout, base_checkout, composer
from tests.triton.graphs import FLOAT, locked, make_onnx

BYTES = {
    "one": make_onnx({"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 4])}),
    "two": make_onnx({"x": (FLOAT, ["n", 8])}, {"y": (FLOAT, ["n", 8])}),
}
BASE = 'summary = "b"\n[root]\nsuite = "trixie"\npackages = "base.apt"\n'
SERVE = """
summary = "s"
[serve]
lock = "served.lock"
[[serve.model]]
name = "m"
versions = { 1 = "one", 2 = "two" }
"""
STAGES = {
    "base": BASE,
    "served": SERVE,
    "vendor": 'summary = "v"\nfrom = "base"\ninclude = ["served"]\n',
    "small": 'summary = "t"\nfrom = "base"\ninclude = ["served"]\n[serve]\nbackend = "python"\n',
}


def checkout() -> FakeCheckout:
    models = tuple(locked(name, f"{name}.onnx", content=data) for name, data in BYTES.items())
    found = base_checkout()
    return replace(found, locked={**found.locked, "served.lock": models})


def compose(stage: str, stages: dict[str, str] | None = None) -> Composition:
    return composer(stages or STAGES, checkout()).compose(stage)


def layers(stage: str, stages: dict[str, str] | None = None) -> dict[str, Spec]:
    return {spec.name: spec for spec in compose(stage, stages).layers}


def small_layer(stage: str, stages: dict[str, str] | None = None) -> Spec:
    (found,) = (spec for spec in layers(stage, stages).values() if spec.kind is Kind.SERVING)
    return found


def open_model(model: Model, wrong: bytes = b"") -> object:
    def opened(file: ModelFile) -> Iterator[bytes]:
        data = BYTES[model.name] + wrong
        yield from (data[at : at + CHUNK] for at in range(0, len(data), CHUNK))

    return opened


def texts_of(spec: Spec) -> dict[str, str]:
    assert isinstance(spec.work, PackServing)
    out = io.BytesIO()
    write_layer(members_of_serving(spec.work, open_model), out, Compression.NONE)  # type: ignore[arg-type]
    out.seek(0)
    with tarfile.open(fileobj=out) as layer:
        return {m.name: layer.extractfile(m).read().decode() for m in layer if m.isfile()}  # type: ignore[union-attr]


def test_versions_are_model_layers_that_images_with_different_servers_share() -> None:
    vendor, small = layers("vendor"), layers("small")
    shared = {name: spec.key for name, spec in vendor.items() if spec.kind is Kind.MODEL}
    assert set(shared) == {"served/m/1", "served/m/2"}
    assert {name: spec.key for name, spec in small.items() if spec.kind is Kind.MODEL} == shared
    work = vendor["served/m/2"].work
    assert isinstance(work, PackModel)
    assert (work.target, [work.place(file) for file in work.files]) == ("/models/m/2", ["model.onnx"])
    assert small_layer("vendor").key != small_layer("small").key


def test_the_same_version_of_two_repositories_is_one_layer() -> None:
    other = STAGES | {"served": SERVE.replace("{ 1", '{ 7 = "two", 1') + "max-batch = 4\n"}
    before, after = layers("vendor"), layers("vendor", other)
    assert before["served/m/1"].key == after["served/m/1"].key
    assert before["served/m/2"].key == after["served/m/2"].key
    assert after["served/m/7"].key != after["served/m/2"].key
    assert small_layer("vendor").key != small_layer("vendor", other).key


def test_the_small_layer_is_made_from_the_graphs() -> None:
    vendor, small = texts_of(small_layer("vendor")), texts_of(small_layer("small"))
    assert list(vendor) == ["models/m/config.pbtxt"]
    assert sorted(small) == ["models/m/1/model.py", "models/m/2/model.py", "models/m/config.pbtxt"]
    assert 'name: "x"\n  data_type: TYPE_FP32\n  dims: [-1, -1]' in vendor["models/m/config.pbtxt"]
    compile(small["models/m/1/model.py"], "model.py", "exec")


SETTINGS = ("threads = 2", "cache = true", "policy = { only = [2] }")
VERSIONS = ('2 = "one"', '3 = "two"')


def test_what_the_files_depend_on_changes_the_key_of_the_small_layer() -> None:
    stages = [STAGES | {"served": f"{SERVE}{line}\n"} for line in SETTINGS]
    stages += [STAGES | {"served": SERVE.replace('2 = "two"', version)} for version in VERSIONS]
    stages += [STAGES | {"served": SERVE.replace("[[serve", 'target = "/srv"\n[[serve')}, STAGES]
    assert len({small_layer("vendor", one).key for one in stages}) == len(stages)
    texts = [texts_of(small_layer("vendor", one)) for one in (*stages[:3], stages[-1])]
    assert all(texts.count(one) == 1 for one in texts)


def test_gpus_move_no_key_and_are_checked_all_the_same() -> None:
    text = SERVE + 'instances = { kind = "gpu", gpus = [1] }\n'
    asking = {
        name: STAGES | {"served": text, "vendor": STAGES["vendor"] + f"[gpu]\ncount = {name}\n"} for name in (2, 3)
    }
    assert small_layer("vendor", asking[2]).key == small_layer("vendor", asking[3]).key
    for stages in (STAGES | {"served": text}, asking[2] | {"vendor": STAGES["vendor"] + "[gpu]\ncount = 1\n"}):
        with pytest.raises(DefinitionError, match=r"serve.model m.instances.*(asks for a GPU|beyond the 1)"):
            compose("vendor", stages)


def test_a_stage_that_serves_nothing_and_two_repositories_are_refused() -> None:
    alone = {"base": BASE, "x": 'summary = "x"\nfrom = "base"\n[serve]\nbackend = "python"\n'}
    with pytest.raises(DefinitionError, match="has no models to serve"):
        compose("x", alone)
    two = STAGES | {"more": SERVE, "x": 'summary = "x"\nfrom = "base"\ninclude = ["served", "more"]\n'}
    with pytest.raises(DefinitionError, match="two model repositories, of `served` and `more`"):
        compose("x", two)


def test_other_bytes_than_those_of_the_lock_make_no_configuration() -> None:
    work = small_layer("vendor").work
    assert isinstance(work, PackServing)
    assert [(one.name, one.version, one.file.sha256) for one in graphs_of(work)] == [
        ("m", 1, FileHash.of(BYTES["one"])), ("m", 2, FileHash.of(BYTES["two"])),
    ]  # fmt: skip
    with pytest.raises(MismatchError, match=r"one: one\.onnx is not the file of the lock"):
        list(members_of_serving(work, lambda model: open_model(model, b"\x08\x01")))  # type: ignore[arg-type,return-value]
    with pytest.raises(BuildError, match=r"one: one\.onnx ends in the middle"):
        list(members_of_serving(work, lambda model: open_model(model, b"\x0a\x7f")))  # type: ignore[arg-type,return-value]
