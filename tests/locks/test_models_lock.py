"""Requests for models, and their locks."""

import pytest

from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.locks.model_source import PypiSource, RepoSource, UrlSource, parse_model_source
from buildkit.locks.models_lock import (
    ModelsLock,
    models_lock_path,
    models_source_path,
    parse_models_file,
    parse_models_lock,
    render_models_lock,
    request_hash,
)
from buildkit.locks.pins import Artifact, Model, ModelFile

HASH = FileHash.of(b"bytes")
INPUT = """
[[model]]
name = "silero-vad"
source = "pypi:silero-vad"
version = ">=6,<7"
files = ["silero_vad/data/*.onnx"]

[[model]]
name = "voice"
source = "https://models.example/v1"
files = ["a.onnx", "sub/b.json"]
license = "MIT"

[[model]]
name = "own"
source = "path:models/own"
"""


def test_model_requests_are_parsed():
    vad, voice, own = parse_models_file(INPUT, "x").models
    assert (vad.source, vad.version) == (PypiSource(project="silero-vad"), ">=6,<7")
    assert voice.source == UrlSource(url="https://models.example/v1")
    assert (voice.files, voice.license) == (("a.onnx", "sub/b.json"), "MIT")
    assert (own.source, own.files) == (RepoSource(path="models/own"), ())


def test_every_problem_is_reported():
    text = """
[[model]]
nmae = "x"
source = "ftp://x"
[[model]]
name = "a"
source = "pypi:a"
version = "one two"
[[model]]
name = "a"
source = "https://user:secret@h.example/x"
[[model]]
name = "b"
source = "https://h.example/x"
files = ["*.onnx", "../up"]
[[model]]
name = "c"
source = "path:../outside"
"""
    with pytest.raises(DefinitionError) as caught:
        parse_models_file(text, "requirements/models.toml")
    message = str(caught.value)
    for word in ("did you mean `name`?", "`ftp://x`", "needs `files`", "`one two`", "a password in a URL", "a pattern",
                 "../up", "../outside"):  # fmt: skip
        assert word in message
    assert "secret" not in message
    with pytest.raises(DefinitionError, match="twice"):
        parse_models_file('[[model]]\nname="a"\nsource="path:x"\n[[model]]\nname="a"\nsource="path:y"\n', "x")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("pypi:silero-vad", PypiSource(project="silero-vad")),
        ("pypi:pkg[extra,other]", PypiSource(project="pkg[extra,other]")),
        ("https://h.example/x:y/", UrlSource(url="https://h.example/x:y/")),
        ("path:models/own/", RepoSource(path="models/own/")),
        ("path:a:b", RepoSource(path="a:b")),
    ],
)
def test_model_source_renders_the_text_that_it_was_parsed_from(text, source):
    assert parse_model_source(text) == source
    assert str(source) == text


@pytest.mark.parametrize("text", ["", "models/own", "http://h.example/x", "ftp:x", "PYPI:x"])
def test_model_source_of_unknown_scheme_is_refused(text):
    with pytest.raises(ValueError, match="is not a model source"):
        parse_model_source(text)


def test_models_lock_parses_back_to_the_same_value():
    wheel = Artifact(name="silero-vad", version="6.2.3", file="silero_vad-6.2.3-py3-none-any.whl", sha256=HASH, size=9)
    files = (ModelFile(path="vad.onnx", sha256=HASH, size=5, source="silero_vad/data/vad.onnx"),)
    models = (
        Model(
            name="silero-vad",
            version="6.2.3",
            source=PypiSource(project="silero-vad"),
            license="MIT",
            files=files,
            wheel=wheel,
        ),
        Model(name="own", version="", source=RepoSource(path="models/own"), license="", files=files * 2),
    )
    lock = ModelsLock(inputs=FileHash.of(b"i"), models=models, requests=(FileHash.of(b"1"), FileHash.of(b"2")))
    text = render_models_lock(lock)
    assert parse_models_lock(text, "x") == lock
    with pytest.raises(DefinitionError, match="made from"):
        parse_models_lock(text.partition("\n")[2], "x")
    with pytest.raises(DefinitionError, match=r"model\[0\]\.file\[0\]\.size"):
        parse_models_lock(text.replace("size = 5", 'size = "5"', 1), "x")


def test_request_hash_covers_every_field():
    vad, voice, own = parse_models_file(INPUT, "x").models
    changed = parse_models_file(INPUT.replace(">=6,<7", ">=6"), "x").models
    assert request_hash(changed[0]) != request_hash(vad)
    assert [request_hash(one) for one in changed[1:]] == [request_hash(voice), request_hash(own)]


def test_paths_of_models_lock_and_input_correspond():
    assert models_lock_path("requirements/models.toml") == "requirements/models.lock"
    assert models_source_path("requirements/models.lock") == "requirements/models.toml"


def test_model_is_not_placed_where_the_runtime_mounts():
    text = '[[model]]\nname = "m"\nsource = "path:m"\ntarget = "%s"\n'
    assert parse_models_file(text % "/srv/m", "x.toml").models[0].target == "/srv/m"
    with pytest.raises(DefinitionError, match=r"`model m\.target`: `/proc/m` is below /proc"):
        parse_models_file(text % "/proc/m", "x.toml")


def test_lock_with_marks_of_a_merge_names_the_command_that_makes_it_anew():
    with pytest.raises(DefinitionError, match="is not TOML") as caught:
        parse_models_lock(f"# buildkit inputs {HASH}\n<<<<<<< HEAD\n", "requirements/models.lock")
    assert caught.value.hint == "run: nox -s lock"
