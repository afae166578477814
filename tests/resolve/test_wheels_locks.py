"""Wheels locks from requirements locks, over real folders of (empty) distributions."""

import threading
import zipfile

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, FetchError
from buildkit.events import StepFailed, StepFinished, StepStarted, ignore_event
from buildkit.locks.wheels_lock import parse_wheels_lock
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.resolve.wheels import find_stale_wheels, lock_wheels, make_choose
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources
from buildkit.tools.indexes import Indexes

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
LOCK = "requirements/api.txt"
FILES = (
    "a-1.0-py3-none-any.whl",
    "a-1.0.tar.gz",
    "native-2-cp313-cp313-manylinux_2_28_x86_64.whl",
    "native-2-cp313-cp313-manylinux_2_28_aarch64.whl",
    "old-3.tar.gz",
    "win-1-py3-none-any.whl",
)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "libs/textkit").mkdir(parents=True)
    (tmp_path / "libs/textkit/pyproject.toml").write_text('[project]\nname = "TextKit"\nversion = "1.2"\n')
    for name in FILES:
        (tmp_path / "links" / name).write_bytes(name.encode())
    write(tmp_path, "a==1.0", "native==2", "old==3", "win==1 ; sys_platform == 'win32'")
    return tmp_path


def hashes(name):
    project = name.partition("=")[0]
    return "".join(f" --hash={FileHash.of(file.encode())}" for file in FILES if file.startswith(f"{project}-"))


def write(root, *pins):
    text = "".join(f"{pin}{hashes(pin)}\n" for pin in pins) + "./libs/textkit\n"
    (root / LOCK).write_text(text)


def lock(root, target=TARGET, choose=None, emit=ignore_event):
    sources = PackageSources(pip=IndexSettings(no_index=True, find_links=(str(root / "links"),)), uv=IndexSettings())
    request = LockRequest(root=root, target=target, groups=(("requirements/api.in",),))
    indexes = Indexes(sources, HttpSession(sources, RetryPolicy(threading.Event())), target)
    drafts = LockDrafts(root)
    lock_wheels(request, drafts, choose or make_choose(lambda: indexes), emit)
    drafts.write()
    path = root / "requirements/api.wheels.toml"
    return parse_wheels_lock(path.read_text(), "x") if path.exists() else None


def test_every_applicable_pin_gets_one_file(root):
    made = lock(root)
    assert [(one.name, one.file, one.path) for one in made.artifacts] == [
        ("a", "a-1.0-py3-none-any.whl", ""),
        ("native", "native-2-cp313-cp313-manylinux_2_28_x86_64.whl", ""),
        ("old", "old-3.tar.gz", ""),
        ("textkit", "", "./libs/textkit"),
    ]
    assert all(one.size == len(one.file) and one.sha256 == FileHash.of(one.file.encode()) for one in made.artifacts[:3])


def test_another_target_gets_other_files(root):
    lock(root)
    made = lock(root, Target(python="3.13", glibc="2.41", arch="aarch64"))
    assert made.artifacts[1].file.endswith("aarch64.whl")


def test_pin_without_fitting_file_is_reported_with_available_tags(root):
    with pytest.raises(DefinitionError) as caught:
        lock(root, Target(python="3.12", glibc="2.41", arch="x86_64"))
    problem = caught.value.problems[0]
    assert problem.file == f"{LOCK}:2"
    assert "native==2: no wheel fits Python 3.12, glibc 2.41, x86_64, and there is no sdist" in problem.what
    assert "cp313-cp313-manylinux_2_28_x86_64" in problem.hint


def problem_of(root, text):
    (root / LOCK).write_text(text)
    with pytest.raises(DefinitionError) as caught:
        lock(root)
    return caught.value.problems[0]


def test_no_binary_of_the_lock_chooses_the_sdist(root):
    write(root, "a==1.0")
    assert lock(root).artifacts[0].file == "a-1.0-py3-none-any.whl"
    (root / LOCK).write_text("--no-binary a\n" + (root / LOCK).read_text())
    assert lock(root).artifacts[0].file == "a-1.0.tar.gz"  # and not the wheel that was chosen before


def test_message_says_that_an_option_excludes_every_file(root):
    problem = problem_of(root, f"--no-binary :all:\nwin==1{hashes('win')}\n")
    assert problem.what == "win==1: the input's `--no-binary` allows no wheel, and there is no sdist"
    problem = problem_of(root, f"--only-binary old\nold==3{hashes('old')}\n")
    assert problem.what.endswith("and the input's `--only-binary` allows no sdist")


def test_message_says_that_the_python_is_excluded(root):
    with zipfile.ZipFile(root / "links/capped-1-py3-none-any.whl", "w") as archive:
        archive.writestr("capped-1.dist-info/METADATA", "Name: capped\nRequires-Python: <3.13,>=3.8\n")
    digest = FileHash.of((root / "links/capped-1-py3-none-any.whl").read_bytes())
    problem = problem_of(root, f"capped==1 --hash={digest}\n")
    assert problem.what == "capped==1 needs Python <3.13,>=3.8, and the images have 3.13"
    assert "allow another" in problem.hint


def test_all_pins_missing_from_the_indexes_are_reported(root):
    (root / LOCK).write_text(f"x==1 --hash=sha256:{'0' * 64}\ny==1 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(DefinitionError) as caught:
        lock(root)
    assert len(caught.value.problems) == 2
    assert not (root / "requirements/api.wheels.toml").exists()


def test_choosing_files_is_a_step_that_finishes_or_fails(root):
    events = []
    lock(root, emit=events.append)
    assert [(type(event), event.step, event.phase) for event in events] == [
        (StepStarted, "choose 4 files", "lock"),
        (StepFinished, "choose 4 files", "lock"),
    ]
    events.clear()
    with pytest.raises(DefinitionError):
        lock(root, Target(python="3.12", glibc="2.41", arch="x86_64"), emit=events.append)
    assert [type(event) for event in events] == [StepStarted, StepFailed]
    assert "no wheel fits Python 3.12" in events[1].message


def test_only_new_pins_are_looked_up(root):
    before = lock(root)
    write(root, "native==2", "a==1.0", "old==3")
    asked = []

    def choose(pin, _target):
        asked.append(pin.name)
        return next(one for one in before.artifacts if one.name == pin.name)

    made = lock(root, choose=choose)
    assert asked == ["old", "textkit"]  # an sdist is asked for again: there may be a wheel by now
    assert [one.name for one in made.artifacts] == ["native", "a", "old", "textkit"]


def test_fresh_wheels_lock_looks_nothing_up(root):
    lock(root)

    def choose(_pin, _target):
        raise FetchError("nobody")

    lock(root, choose=choose)
    request = LockRequest(root=root, target=TARGET, groups=())
    assert find_stale_wheels(request, LockDrafts(root), LOCK) is None
    (root / LOCK).write_text((root / LOCK).read_text().replace("a==1.0", "a==1.1"))
    assert "older than its input" in find_stale_wheels(request, LockDrafts(root), LOCK).what
