"""Inputs of layers may disappear before they are packed, because other processes share the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from buildkit.build.containers import open_containers
from buildkit.build.context import BuildContext
from buildkit.build.inputs import InputTasks
from buildkit.build.layer_members import choose_compression
from buildkit.build.layer_writer import LayerWriter
from buildkit.digest import FileHash, Key
from buildkit.errors import LostError
from buildkit.layers.tar.member import Compression
from buildkit.locks.model_source import UrlSource
from buildkit.locks.pins import Artifact, Model, ModelFile
from buildkit.plan.spec import Compile, PackModel

DATA = b"some bytes"
SHA256 = FileHash.of(DATA)
FILE = ModelFile(path="weights.bin", sha256=SHA256, size=len(DATA), source="https://example.org/weights.bin")
MODEL = Model(name="m", version="1", source=UrlSource(url="https://example.org"), license="MIT", files=(FILE,))


@pytest.fixture
def input_tasks(context: BuildContext) -> Iterator[InputTasks]:
    with open_containers(context, LayerWriter(blobs=context.blobs, store=context.image_store)) as containers:
        yield InputTasks(context, containers, {}, pytest.fail, lambda _composition: ())


def test_compiled_wheel_that_is_gone_raises_lost_error(context: BuildContext, input_tasks: InputTasks) -> None:
    artifact = Artifact(name="x", version="1.0", file="x-1.0.tar.gz", sha256=SHA256)
    item = Compile(artifact=artifact, key=Key.of(b"k"), recipe="{}")
    context.ledger.wheels.add(item.key, "{}", "x-1.0-py3-none-any.whl", SHA256, 1.0)
    path = context.blobs.file_path(SHA256, "x-1.0-py3-none-any.whl")
    path.write_bytes(DATA)
    assert input_tasks.wheel_path(artifact, item) == path
    path.unlink()
    with pytest.raises(LostError, match=r"^x 1\.0: its compiled wheel is gone$") as caught:
        input_tasks.wheel_path(artifact, item)
    assert caught.value.hint == "build again"


@pytest.mark.parametrize(("content", "kept"), [(b"words " * 99999, True), (Random(1).randbytes(1 << 20), False)])
def test_model_is_judged_by_its_file_as_by_its_stream(
    content: bytes, kept: bool, context: BuildContext, input_tasks: InputTasks
) -> None:
    file = replace(FILE, size=len(content), sha256=FileHash.of(content))
    model = replace(MODEL, files=(file,))
    work = PackModel(model=model, files=(file,), target="/models")
    path = input_tasks.find_model_file(model, file)
    assert path is not None
    path.write_bytes(content)
    opened, wanted = input_tasks.open_model(model), Compression.ZSTD
    for find in (lambda _file: path, lambda _file: None):
        assert choose_compression(work, opened, find, wanted) is (wanted if kept else Compression.NONE)
    path.unlink()
    with pytest.raises(LostError, match="is gone"):
        choose_compression(work, opened, lambda _file: path, wanted)


def test_model_download_that_is_gone_raises_lost_error(context: BuildContext, input_tasks: InputTasks) -> None:
    path = context.blobs.file_path(SHA256, "weights.bin")
    path.write_bytes(DATA)
    opened = input_tasks.open_model(MODEL)
    assert b"".join(opened(FILE)) == DATA
    path.unlink()
    with pytest.raises(LostError, match=r"^m: weights\.bin: the cached weights\.bin is gone$") as caught:
        b"".join(opened(FILE))
    assert caught.value.hint == "build again"
