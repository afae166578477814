"""Model files from a wheel or from disk are verified against the lock, and compressed only if they shrink."""

import hashlib
from dataclasses import replace

import pytest
from wheelmaker import make_wheel, read_layer

from buildkit.digest import FileHash
from buildkit.errors import MismatchError, WheelError
from buildkit.layers.models import (
    forward_reader,
    model_members,
    open_from_paths,
    open_from_wheel,
    worth_compressing,
)
from buildkit.locks.model_source import PypiSource, RepoSource
from buildkit.locks.pins import Model, ModelFile

WEIGHTS = b"weights" * 300_000
NOISE = b"".join(hashlib.sha256(number.to_bytes(4)).digest() for number in range(40_000))
TEXT = b"the same few words again and again, " * 40_000


def model(*files):
    return Model(name="demo", version="1.0", source=PypiSource(project="demo"), license="MIT", files=files)


def locked(path, data, source):
    return ModelFile(path=path, sha256=FileHash.of(data), size=len(data), source=source)


def test_files_of_a_wheel_are_sorted_below_the_models_folder(tmp_path):
    wheel = make_wheel(tmp_path, {"demo/data/m.onnx": WEIGHTS, "demo/a.txt": b"words"})
    files = (locked("m.onnx", WEIGHTS, "demo/data/m.onnx"), locked("about/a.txt", b"words", "demo/a.txt"))
    found, packed = read_layer(model_members(model(*files), open_from_wheel(wheel), "/models/demo"))
    assert found == {"models/demo/about/a.txt": (b"words", False), "models/demo/m.onnx": (WEIGHTS, False)}
    assert str(packed.diff_id) == "sha256:553a29ff9731829f56e13ad2ebe90d352f17d3609815eee59ca278f3e92c9b70"


def test_model_files_on_disk_are_packed(tmp_path):
    (tmp_path / "m.onnx").write_bytes(WEIGHTS)
    opened = open_from_paths(lambda file: tmp_path / file.source)
    found, _ = read_layer(model_members(model(locked("m.onnx", WEIGHTS, "m.onnx")), opened, "models"))
    assert found == {"models/m.onnx": (WEIGHTS, False)}


def test_bytes_that_differ_from_the_lock_raise_an_error(tmp_path):
    (tmp_path / "m.onnx").write_bytes(WEIGHTS[::-1])
    opened = open_from_paths(lambda file: tmp_path / file.source)
    with pytest.raises(MismatchError, match=r"models/m\.onnx has SHA-256"):
        read_layer(model_members(model(locked("m.onnx", WEIGHTS, "m.onnx")), opened, "models"))


@pytest.mark.parametrize("later", [WEIGHTS[::-1], WEIGHTS[:-1], WEIGHTS + b"s"])
def test_edited_file_of_the_repository_is_reported_as_changed(tmp_path, later):
    """The hash is that of the file when the build began, not that of the lock."""
    (tmp_path / "m.onnx").write_bytes(later)
    own = replace(model(locked("m.onnx", WEIGHTS, "models/m.onnx")), source=RepoSource(path="models"))
    with pytest.raises(MismatchError) as caught:
        read_layer(model_members(own, open_from_paths(lambda _file: tmp_path / "m.onnx"), "models"))
    assert caught.value.message == "models/m.onnx has changed since the build began"
    assert caught.value.hint == "build again"


def test_file_missing_from_the_wheel_raises_an_error_that_names_both(tmp_path):
    wheel = make_wheel(tmp_path)
    with pytest.raises(WheelError, match=r"demo_pkg-1\.0-py3-none-any\.whl: 'gone\.onnx' is missing"):
        read_layer(model_members(model(locked("m", b"", "gone.onnx")), open_from_wheel(wheel), "models"))


@pytest.mark.parametrize(
    ("data", "worth"),
    [(TEXT, True), (NOISE, False), (NOISE[:9] * 2, False), (b"", False), (NOISE + TEXT[: len(NOISE)], True)],
)
def test_only_shrinking_content_is_worth_compressing(data, worth):
    read: list[int] = []

    def read_at(offset, length):
        read.append(length)
        return data[offset : offset + length]

    assert worth_compressing(read_at, len(data)) is worth
    assert sum(read) <= 1 << 20


@pytest.mark.parametrize("chunk", [1000, 65_536, 1 << 20])
def test_stream_is_judged_like_a_file(chunk):
    for data in (TEXT, NOISE, NOISE + TEXT):
        pieces = (data[at : at + chunk] for at in range(0, len(data), chunk))
        asked: list[bytes] = []
        reader = forward_reader(pieces)

        def read_at(offset, length, reader=reader, asked=asked, data=data):
            asked.append(reader(offset, length))
            assert asked[-1] == data[offset : offset + length]
            return asked[-1]

        worth_compressing(read_at, len(data))
        assert asked
