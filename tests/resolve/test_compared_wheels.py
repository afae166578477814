"""Wheels of one image with different files at one path: found when they are locked, from kilobytes of each."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from httpx2 import Response

from buildkit.declare.project import parse_project
from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.events import Event, Note
from buildkit.locks.pins import Artifact
from buildkit.locks.wheels_lock import make_wheels_lock, parse_wheels_lock, render_wheels_lock
from buildkit.resolve.meeting_wheels import check_meetings
from buildkit.resolve.project_locks import make_request
from buildkit.resolve.request import ImageWheels, LockDrafts
from buildkit.resolve.wheel_contents import WheelContents
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources
from buildkit.tools.indexes import Indexes
from tests.layers.wheelmaker import make_wheel
from tests.resolve.fileserver import serve_folder
from tests.stagegraphs import graph as stage_graph

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
SITE = "opt/venv/lib/python3.13/site-packages"
STAGE = "stages/app/stage.toml"
LOCK = "requirements/app.txt"
BIG = random.Random(1).randbytes(3 << 20)
FULL = {"cv2/__init__.py": b"full", "cv2/data.py": b"1", "cv2/own.py": b"x"}
HEADLESS = {"cv2/__init__.py": b"headless", "cv2/data.py": b"2"}
NAMESPACES = (
    b"from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n",
    b"# ours\n__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n",
)


class CountingSession(HttpSession):
    """Counts the bytes of bodies."""

    fetched = 0

    def iter_body(self, url: str, response: Response) -> Iterator[bytes]:
        for chunk in super().iter_body(url, response):
            self.fetched += len(chunk)
            yield chunk


@dataclass
class Bench:
    """Locks wheels that a server, or a folder, has."""

    root: Path
    links: str
    has_ranges: bool = True
    events: list[Event] = field(default_factory=list)
    fetched: int = 0

    def wheel(self, name: str, files: dict[str, bytes], **more: str) -> Artifact:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\n"
        made = make_wheel(self.root / "made", files, name=name, METADATA=metadata, **more)
        sha256 = FileHash(hashlib.sha256(made.read_bytes()).hexdigest())
        return Artifact(name=name, version="1.0", file=made.name, sha256=sha256, size=made.stat().st_size)

    def lock(self, *wheels: Artifact, prefer: tuple[str, ...] = ()) -> tuple[Artifact, ...]:
        drafts = LockDrafts(self.root)
        lock = make_wheels_lock(FileHash.of(b""), TARGET, wheels)
        drafts.decide("requirements/app.wheels.toml", render_wheels_lock(lock, "3.13.5"))
        sources = PackageSources(pip=IndexSettings(no_index=True, find_links=(self.links,)), uv=IndexSettings())
        with closing(CountingSession(sources, RetryPolicy(threading.Event(), unit=0))) as session:
            contents = WheelContents(Indexes(sources, session, TARGET), TARGET, {})
            image = ImageWheels(stage="app", files={LOCK: STAGE}, prefer=prefer)
            check_meetings([image], drafts, contents, self.events.append)
            self.fetched = session.fetched
        text = drafts.get("requirements/app.wheels.toml")
        assert "# buildkit python 3.13.5\n" in text
        return parse_wheels_lock(text, "x").artifacts

    def problem(self, *wheels: Artifact, prefer: tuple[str, ...] = ()) -> Problem:
        with pytest.raises(DefinitionError) as caught:
            self.lock(*wheels, prefer=prefer)
        (problem,) = caught.value.problems
        return problem

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["folder", "server", "server without ranges"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "made").mkdir()
    if request.param == "folder":
        yield Bench(tmp_path, str(tmp_path / "made"))
        return
    with serve_folder(tmp_path / "made", ranges=request.param == "server") as url:
        yield Bench(tmp_path, url, has_ranges=request.param == "server")


def test_wheels_that_meet_are_named_before_anything_is_written(bench: Bench) -> None:
    full, less = bench.wheel("opencv_python", FULL), bench.wheel("opencv_headless", HEADLESS)
    found = bench.problem(full, less)
    assert (found.file, found.key) == (STAGE, "wheels.prefer")
    assert found.what == (
        f"/{SITE}/cv2/__init__.py is in opencv_headless 1.0 and in opencv_python 1.0, as is 1 more, and their bytes "
        "differ; pip would keep the file of the one that it installs last, and say nothing"
    )
    assert found.hint == (
        'name the package that wins: prefer = ["opencv_headless"] or ["opencv_python"] in [wheels] of '
        "stages/app/stage.toml; or exclude one of the two"
    )
    slip = bench.problem(full, less, prefer=("opencv_pyton",))
    assert slip.hint == "`prefer` has `opencv_pyton`, which no wheel is; did you mean `opencv_python`?"
    assert [one.unseen for one in bench.lock(full, less, prefer=("opencv_python",))] == [False, False]
    assert not bench.warnings


def test_every_pair_is_reported_at_once(bench: Bench) -> None:
    stray = [bench.wheel(name, {"tests/__init__.py": name.encode()}) for name in ("one", "two")]
    with pytest.raises(DefinitionError) as caught:
        bench.lock(*stray, bench.wheel("full", FULL), bench.wheel("less", HEADLESS))
    assert sorted(problem.what.split(" is in ")[0] for problem in caught.value.problems) == [
        f"/{SITE}/cv2/__init__.py",
        f"/{SITE}/tests/__init__.py",
    ]


def test_equal_files_and_namespaces_do_not_meet_but_modes_and_scripts_do(bench: Bench) -> None:
    first, second = (
        bench.wheel(name, {"backports/__init__.py": text, "LICENSE": b"free"})
        for name, text in zip(("one", "two"), NAMESPACES, strict=True)
    )
    bench.lock(first, second)
    tools = [
        bench.wheel(name, {}, **{"entry_points.txt": f"[console_scripts]\ntool = {name}:main\n"})
        for name in ("three", "four")
    ]
    assert "/opt/venv/bin/tool is in four 1.0 and in three 1.0" in bench.problem(*tools).what


def test_file_where_another_wheel_has_a_folder_is_refused(bench: Bench) -> None:
    found = bench.problem(bench.wheel("one", {"data": b"x"}), bench.wheel("two", {"data/x": b"x"}))
    assert found.what == f"/{SITE}/data is a file in one 1.0 and a folder in two 1.0"


def test_only_the_end_of_a_large_wheel_is_fetched_and_one_that_nobody_sees_is_marked(bench: Bench) -> None:
    big = bench.wheel("big", {"cv2/weights.bin": BIG, **FULL})
    less = bench.wheel("less", HEADLESS)
    if bench.has_ranges:
        assert "is in big 1.0 and in less 1.0" in bench.problem(big, less).what
        bench.lock(big, less, prefer=("less",))
        assert bench.fetched < 300_000
        return
    marked, plain = bench.lock(big, less)
    assert (marked.unseen, plain.unseen) == (True, False)
    said = "only the whole file tells whether its files meet those of other wheels"
    assert bench.warnings == [f"big: {said}, so a build fetches all before it packs any"]
    assert bench.fetched < 100_000
    cached = bench.root / f"cache/files/{big.sha256.hex if big.sha256 else ''}"
    cached.mkdir(parents=True)
    (cached / big.file).write_bytes((bench.root / "made" / big.file).read_bytes())
    assert "is in big 1.0 and in less 1.0" in bench.problem(big, less).what, "what the cache has is read there"


def test_wheel_that_is_nowhere_or_damaged_is_left_to_the_build(bench: Bench) -> None:
    full, less = bench.wheel("full", FULL), bench.wheel("less", HEADLESS)
    (bench.root / "made" / full.file).unlink()
    (bench.root / "made" / less.file).write_bytes(b"no zip")
    assert [one.unseen for one in bench.lock(full, less)] == [True, True]


def test_images_are_those_that_ship_and_those_that_no_other_stage_is_made_of(tmp_path: Path) -> None:
    """What a stage leaves open, one that includes it may settle."""
    for name in ("deps", "top", "sold"):
        (tmp_path / f"requirements/{name}.in").parent.mkdir(exist_ok=True)
        (tmp_path / f"requirements/{name}.in").write_text("idna\n")
    wheels = '[wheels]\nlocks = ["requirements/{}.txt"]\n'
    graph = stage_graph(
        deps=wheels.format("deps"),
        sold="ships = true\n" + wheels.format("sold"),
        top='include = ["deps", "sold"]\n' + wheels.format("top") + 'prefer = ["One"]\n',
    )
    project = parse_project("[tool.buildkit]\n", tmp_path)
    request = make_request(project, graph)
    assert [(image.stage, sorted(image.files), image.prefer) for image in request.images] == [
        ("sold", ["requirements/sold.txt"], ()),
        ("top", [f"requirements/{name}.txt" for name in ("deps", "sold", "top")], ("one",)),
    ]
    assert [image.stage for image in make_request(parse_project("", tmp_path), graph, only="deps").images] == ["deps"]


def test_requirements_of_somebody_else_become_the_input_by_the_command_that_is_named(tmp_path: Path) -> None:
    graph = stage_graph(deps='[wheels]\nlocks = ["requirements/deps.txt"]\n')
    project = parse_project("", tmp_path)
    (tmp_path / "requirements").mkdir()
    for text, hint in (None, "list what the stage needs there"), ("idna==3.10\n", "run: mv requirements/deps."):
        if text:
            (tmp_path / "requirements/deps.txt").write_text(text)
        with pytest.raises(DefinitionError, match=r"there is no requirements/deps\.in") as caught:
            make_request(project, graph)
        assert caught.value.hint.startswith(hint)
