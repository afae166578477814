"""Files of a models lock: read by one expression, or as TOML, they are the same; and so is every refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.locks import models_lock
from buildkit.locks.model_file_runs import FileRuns
from buildkit.locks.model_source import RepoSource
from buildkit.locks.models_lock import ModelsLock, parse_models_lock, render_models_lock
from buildkit.locks.pins import Model, ModelFile

HASH = FileHash.of(b"bytes")
ODD = ("a", "ü 木", 'with "quotes"', "back\\slash", "tab\t", "a/b.c", "..a", "a..", "#x", "[[model.file]]", "= =", " ")


def lock_of(*models: list[ModelFile]) -> str:
    made = [
        Model(name=f"m{number}", version="", source=RepoSource(path="models"), license="MIT", files=tuple(files))
        for number, files in enumerate(models)
    ]
    return render_models_lock(ModelsLock(inputs=HASH, models=tuple(made), requests=(HASH,) * len(made)))


def as_toml(text: str) -> ModelsLock:
    return models_lock._parse_lock(text, "x.lock", FileRuns(text, fold=False))


FILES = st.lists(
    st.builds(
        ModelFile,
        path=st.sampled_from([path for path in ODD if "\\" not in path]),
        sha256=st.just(HASH),
        size=st.sampled_from([0, 1, 7, 10**15 - 1, 10**15]),
        source=st.sampled_from([*ODD, ""]),
    ),
    min_size=1,
    max_size=6,
)


@given(st.lists(FILES, max_size=3))
def test_lock_has_the_same_meaning_however_it_is_read(models: list[list[ModelFile]]) -> None:
    text = lock_of(*models)
    assert parse_models_lock(text, "x.lock") == as_toml(text)


def test_twenty_thousand_files_leave_little_to_the_parser_of_toml() -> None:
    text = lock_of([ModelFile(path=f"d/{number}", sha256=HASH, size=number, source="s") for number in range(10)])
    head, _, tail = text.partition("[[model.file]]\n")
    block = f"[[model.file]]\n{tail}"
    text = head + "".join(block for _ in range(2000))
    runs = FileRuns(text)
    assert len(runs.text) < len(head) + 100
    assert len(parse_models_lock(text, "x.lock").models[0].files) == 20_000


_LOCK = lock_of([ModelFile(path=name, sha256=HASH, size=1, source=name) for name in "abc"], [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('path = "b"', 'path = "../b"'),
        ('path = "b"', 'path = "x/.."'),
        ('path = "b"', 'path = "./b"'),
        ('path = "b"', 'path = "/b"'),
        ('path = "b"', 'path = ""'),
        ('path = "b"', 'path = "b"\npath = "b"'),
        ("size = 1", "size = 01"),
        ("size = 1", "size = -1"),
        ("size = 1", "size = 9999999999999999"),
        ('source = "b"', 'source = "b"\nmore = 1'),
        ('source = "b"', 'source = "b"\n[model.file.more]'),
        ('source = "c"', 'source = "c"\nrun-of-files = 0'),
        ("[[model.file]]", "[[model.file]]\nrun-of-files = 0"),
        ("[[model]]", "[model]"),
        ('license = "MIT"', 'license = """\n[[model.file]]\n"""'),
        ('version = ""', 'version = "x'),
        ("# buildkit", "# "),
    ],
)
def test_what_toml_refuses_is_refused_with_the_same_words(old: str, new: str) -> None:
    text = _LOCK.replace(old, new, 1)
    assert text != _LOCK
    with pytest.raises(DefinitionError) as expected:
        as_toml(text)
    with pytest.raises(DefinitionError) as caught:
        parse_models_lock(text, "x.lock")
    assert (caught.value.message, caught.value.problems) == (expected.value.message, expected.value.problems)


@pytest.mark.parametrize(
    "change",
    [
        ('license = "MIT"', 'license = """\n[[model.file]]\npath = "z"\n"""'),
        ('path = "b"', "path = 'b'"),
        ('path = "b"', 'path = "b" # mine'),
        ('path = "b"', 'path = "\\u0062"'),
        ("[[model.file]]", "[[ model.file ]]"),
        ("\n", "\r\n"),
    ],
)
def test_lock_that_an_editor_changed_means_what_toml_says(change: tuple[str, str]) -> None:
    whole = lock_of([ModelFile(path=name, sha256=HASH, size=1, source=name) for name in "abc"])
    text = whole.replace(*change) if change[0] == "\n" else whole.replace(*change, 1)
    assert text != whole
    assert parse_models_lock(text, "x.lock") == as_toml(text)
