"""Versions that the images' Python may not have are excluded until resolver and choice of files agree."""

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem, ToolError
from buildkit.events import Note
from buildkit.locks.pins import Artifact
from buildkit.locks.wheels_lock import parse_wheels_lock
from buildkit.resolve.packages import lock_packages
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.resolve.wheels import UnfitPin

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")


class Bench:
    """A resolver that takes the newest version that no constraint excludes, and files of which ``refused`` are not."""

    def __init__(self, root, versions, refused, said=()):
        (root / "app.in").write_text("capped\n")
        self.root, self.versions, self.refused, self.said = root, versions, refused, said
        self.drafts, self.asked, self.notes = LockDrafts(root), [], []
        self.failure = "× No solution found when resolving dependencies"

    def resolve(self, asked):
        self.asked.append(asked.constraints)
        left = [version for version in self.versions if f"capped!={version}\n" not in asked.constraints]
        if not left:
            raise ToolError("locking failed", output=self.failure)
        return f"capped=={left[-1]} --hash={FileHash.of(left[-1].encode())}\n"

    def choose(self, pin, _target):
        if pin.version not in self.refused:
            return Artifact(name=pin.name, version=pin.version, file="x.whl", sha256=pin.hashes[0], size=1)
        problem = Problem(file=f"{pin.file}:{pin.line}", what=f"capped=={pin.version} needs Python <3.13")
        return UnfitPin(problem=problem, excluded=tuple(("capped", item) for item in (pin.version, *self.said)))

    def lock(self, *, upgrade=False):
        request = LockRequest(root=self.root, target=TARGET, groups=(("app.in",),))
        lock_packages(request, self.drafts, self.resolve, self.choose, self.notes.append, upgrade=upgrade)
        text = self.drafts.get("app.wheels.toml")
        return [artifact.version for artifact in parse_wheels_lock(text, "x").artifacts]

    @property
    def said_to_user(self):
        return [note.text for note in self.notes if isinstance(note, Note) and note.warning]


@pytest.mark.parametrize("upgrade", [False, True])
def test_an_older_version_is_locked_and_said(tmp_path, upgrade):
    bench = Bench(tmp_path, ["1", "2", "3"], {"3", "2"})
    assert bench.lock(upgrade=upgrade) == ["1"]
    assert bench.asked == ["", "capped!=3\n", "capped!=3\ncapped!=2\n"]
    assert bench.said_to_user == [
        f"app.in:1: capped=={version} needs Python <3.13: looking for an older version" for version in "32"
    ]
    assert bench.lock() == ["1"]
    assert len(bench.asked) == 3  # fresh


def test_all_versions_that_an_index_says_are_excluded_at_once(tmp_path):
    bench = Bench(tmp_path, ["1", "2", "3"], {"3", "2"}, said=("2",))
    assert bench.lock() == ["1"]
    assert len(bench.asked) == 2


def test_the_true_reason_is_said_if_the_input_allows_no_other_version(tmp_path):
    bench = Bench(tmp_path, ["3"], {"3"})
    with pytest.raises(DefinitionError, match=r"app\.in:1: capped==3 needs Python <3\.13"):
        bench.lock()


def test_other_failures_of_the_resolver_are_its_own(tmp_path):
    bench = Bench(tmp_path, ["3"], {"3"})
    bench.failure = "Connection refused"
    with pytest.raises(ToolError):
        bench.lock()


def test_rounds_are_bounded(tmp_path):
    versions = [str(number) for number in range(100)]
    bench = Bench(tmp_path, versions, set(versions))
    with pytest.raises(DefinitionError, match="needs Python"):
        bench.lock()
    assert len(bench.asked) == 16
