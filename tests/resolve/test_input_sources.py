"""Indexes and find-links that an input names itself serve locking and building, whatever the settings are."""

import logging
import re
import threading
from unittest.mock import Mock

import pytest

from buildkit.build.fetch import make_fetcher
from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.events import Note, ignore_event
from buildkit.locks.input_sources import find_input_sources
from buildkit.locks.wheels_lock import parse_wheels_lock
from buildkit.resolve.all_locks import Renewed, lock_all
from buildkit.resolve.request import LockRequest
from tests.installersettings import clear_installer_settings
from tests.packageindex import serve_indexes

TARGET = Target(python="3.13.5", glibc="2.36", arch="x86_64")


@pytest.fixture
def indexes(monkeypatch, tmp_path):
    """The settings name one index; another has the CPU build alone."""
    with serve_indexes([("alpha", "1.0", "beta"), ("beta", "1.0"), ("torchy", "2.9.1", "alpha")]) as server:
        server.add("torchy", "2.9.1+cpu", "alpha", index="cpu")
        clear_installer_settings(monkeypatch)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.url())
        yield server


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "project"
    (folder / "requirements/wheels").mkdir(parents=True)
    return folder


def lock(root):
    request = LockRequest(root=root, target=TARGET, groups=(("requirements/app.in",),))
    lock_all(request, ignore_event)
    text = (root / "requirements/app.wheels.toml").read_text()
    return {one.name: one for one in parse_wheels_lock(text, "x").artifacts}


def test_extra_index_and_relative_links_of_an_input_serve_the_build(root, indexes, capfd):
    with serve_indexes() as other:
        file = other.add("local", "1.0")
        (root / "requirements/wheels" / file).write_bytes(other.files["simple/local"][file])
    lines = (f"--extra-index-url {indexes.url('cpu')}", "--find-links ./wheels", "torchy==2.9.1+cpu", "local")
    (root / "requirements/app.in").write_text("\n".join(lines) + "\n")
    artifacts = lock(root)
    assert capfd.readouterr() == ("", "")  # not a line for each project that one of the indexes lacks
    assert {name: one.version for name, one in artifacts.items()} == {
        "alpha": "1.0", "beta": "1.0", "local": "1.0", "torchy": "2.9.1+cpu",
    }  # fmt: skip
    assert artifacts["torchy"].place.startswith(indexes.url("files/cpu/torchy/torchy-2.9.1"))
    assert artifacts["local"].place == f"requirements/wheels/{file}"
    assert artifacts["alpha"].place == ""
    assert indexes.url("") not in (root / "requirements/app.txt").read_text()
    fetcher = make_fetcher(root, TARGET, threading.Event())
    for name, artifact in artifacts.items():
        fetcher.fetch(artifact, root / f"out/{name}", progress=lambda _done: None)
    fetcher.close()


@pytest.mark.parametrize("line", ["--extra-index-url {}", "--no-index\n-f {}/mine/", "--no-index\n-f ./wheels"])
def test_namesake_of_another_index_is_not_locked_for_what_an_input_has(root, indexes, line):
    """Whoever publishes the same version elsewhere must not get into the lock by a hash that completes it."""
    indexes.add("mine", "1.0", "alpha")
    file = indexes.add("mine", "1.0", index="private")
    content = indexes.files["private/mine"][file]
    (root / "requirements/wheels" / file).write_bytes(content)
    (root / "requirements/app.in").write_text(f"{line.format(indexes.url('private'))}\nmine\n")
    artifacts = lock(root)
    assert {name: one.sha256 for name, one in artifacts.items()} == {"mine": FileHash.of(content)}
    assert re.findall("--hash=(.*)", (root / "requirements/app.txt").read_text()) == [str(FileHash.of(content))]


def test_namesake_of_another_index_is_not_locked_for_what_a_source_assigns_to_one(root, indexes):
    indexes.add("mine", "1.0", "alpha")
    file = indexes.add("mine", "1.0", index="private")
    index = f'[[tool.uv.index]]\nname = "own"\nurl = "{indexes.url("private")}"\nexplicit = true\n'
    (root / "pyproject.toml").write_text(f'[tool.uv.sources]\nmine = {{ index = "own" }}\n{index}')
    (root / "requirements/app.in").write_text("mine\n")
    assert lock(root)["mine"].sha256 == FileHash.of(indexes.files["private/mine"][file])


def test_the_same_settings_in_included_files_and_all_spellings():
    files = {
        "requirements/app.in": "-r ../more.in\n-i https://a.test/simple\n--find-links=https://b.test/links # why\n",
        "more.in": "--extra-index-url=https://c.test\n-f wheels\n--no-index\nidna\n-r requirements/app.in\n",
    }
    found = find_input_sources(["requirements/app.in"], files.get)
    assert found.indexes == ("https://c.test", "https://a.test/simple")
    assert found.find_links == ("wheels", "https://b.test/links")


@pytest.mark.parametrize(
    ("line", "place", "hint"),
    [
        ("-f ./wheel", "requirements/wheel", "did you mean `requirements/wheels`?"),
        ("--find-links=../elsewhere", "elsewhere", "a path of --find-links is relative to the file that names it"),
        ("--find-links file:///no/such", "/no/such", "a path of --find-links is relative to the file that names it"),
    ],
)
def test_folder_of_find_links_that_is_not_there_is_named_with_its_line(root, indexes, line, place, hint):
    (root / "requirements/app.in").write_text("-r more.in\n")
    (root / "requirements/more.in").write_text(f"# first\n{line}\nalpha\n")
    with pytest.raises(DefinitionError) as caught:
        lock(root)
    (problem,) = caught.value.problems
    assert (problem.file, problem.what) == ("requirements/more.in:2", f"--find-links: there is no {place}")
    assert problem.hint == hint


def test_a_lock_that_somebody_wrote_is_not_overwritten(root, indexes):
    (root / "requirements/app.in").write_text("alpha\n")
    (root / "requirements/app.txt").write_text("alpha==0.9\n")
    with pytest.raises(DefinitionError) as caught:
        lock(root)
    problem = caught.value.problems[0]
    assert problem.file == "requirements/app.txt"
    assert problem.what == "was not made by `nox -s lock`, and requirements/app.in would replace it"
    assert problem.hint.endswith("run: rm requirements/app.txt")
    assert (root / "requirements/app.txt").read_text() == "alpha==0.9\n"
    (root / "requirements/app.txt").unlink()
    assert lock(root)["alpha"].version == "1.0"


def test_a_name_that_no_index_has_is_reported_at_its_line(root, indexes):
    """Of three inputs that are resolved together."""
    inputs = {"api": "alpha\n", "dev": "# why\nbeta\nno_such.thing>1\n", "ml": "beta\n"}
    for name, text in inputs.items():
        (root / f"requirements/{name}.in").write_text(text)
    group = tuple(f"requirements/{name}.in" for name in inputs)
    with pytest.raises(DefinitionError) as caught:
        lock_all(LockRequest(root=root, target=TARGET, groups=(group,)), ignore_event)
    (problem,) = caught.value.problems
    assert (problem.file, problem.what) == ("requirements/dev.in:3", "no index has `no-such-thing`")


@pytest.mark.parametrize("lines", ["--pre\nalpha\n", "-r more.in\nalpha\n", "alpha\n"])
def test_pre_of_an_input_or_of_an_included_file_takes_versions_before_a_release(root, indexes, lines):
    indexes.add("alpha", "2.0rc1")
    (root / "requirements/more.in").write_text("--pre\n")
    (root / "requirements/app.in").write_text(lines)
    request = LockRequest(root=root, target=TARGET, groups=(("requirements/app.in",),))
    events = []
    lock_all(request, events.append)
    text = (root / "requirements/app.txt").read_text()
    assert ("alpha==2.0rc1" in text) == (lines != "alpha\n")
    assert not [event for event in events if isinstance(event, Note)], "uv's warning that it ignores the line"


def test_constraints_of_an_input_hold_and_add_nothing(root, indexes):
    indexes.add("alpha", "2.0")
    (root / "limits.txt").write_text("alpha<2\nbeta<9\n")
    (root / "requirements/app.in").write_text("-c ../limits.txt\nalpha\n")
    request = LockRequest(root=root, target=TARGET, groups=(("requirements/app.in",),))
    lock_all(request, ignore_event)
    pins = [line for line in (root / "requirements/app.txt").read_text().splitlines() if "==" in line]
    assert [pin.split()[0] for pin in pins] == ["alpha==1.0", "beta==1.0"], "beta is what alpha 1.0 needs"
    (root / "limits.txt").write_text("alpha\n")
    lock_all(request, ignore_event)
    assert "alpha==1.0" in (root / "requirements/app.txt").read_text(), "the lock's version is kept where it may be"
    lock_all(request, ignore_event, Renewed(all=True))
    assert "alpha==2.0" in (root / "requirements/app.txt").read_text()


def test_no_line_of_log_where_an_index_lacks_a_project(root, indexes, monkeypatch):
    """Nox prints what reaches the root logger."""
    monkeypatch.setenv("UV_INDEX", indexes.url("empty"))
    (root / "requirements/app.in").write_text("alpha\n")
    handler = logging.Handler()
    handler.emit = Mock()
    logging.getLogger().addHandler(handler)
    lock(root)
    logging.getLogger().removeHandler(handler)
    assert any(path.startswith("empty/") for path in indexes.asked)
    assert [call.args[0].name for call in handler.emit.call_args_list if call.args[0].levelno >= logging.WARNING] == []


def test_file_at_a_url_is_locked_and_fetched_from_there(root, indexes):
    """In an input, and as a dependency of a package of the repository."""
    wheel, sdist = indexes.add("direct", "1.5", index="files-only"), indexes.add_sdist("source", "0.3", "files-only")
    urls = [indexes.url(f"files/files-only/{name}") for name in (f"direct/{wheel}", f"source/{sdist}")]
    (root / "libs/tk").mkdir(parents=True)
    text = f'[project]\nname = "tk"\nversion = "1"\ndependencies = ["source @ {urls[1]}"]\n'
    (root / "libs/tk/pyproject.toml").write_text(text)
    (root / "requirements/app.in").write_text(f"direct @ {urls[0]}\n./libs/tk\nalpha\n")
    artifacts = lock(root)
    found = {name: (one.version, one.file, one.place) for name, one in artifacts.items() if one.place}
    assert found == {"direct": ("1.5", wheel, urls[0]), "source": ("0.3", sdist, urls[1])}
    assert artifacts["direct"].size == len(indexes.files["files-only/direct"][wheel])
    fetcher = make_fetcher(root, TARGET, threading.Event())
    fetcher.fetch(artifacts["direct"], root / "out", progress=lambda _done: None)
    fetcher.close()
    assert (root / "out").read_bytes() == indexes.files["files-only/direct"][wheel]
