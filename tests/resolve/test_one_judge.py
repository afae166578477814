"""What resolves and what chooses files agree with pip on a generated table of projects, or refuse; never in silence.

All projects are in one input, and in one folder of find-links or one index, so that each of uv, pip-tools and pip is
started once for each.
"""

import html
import io
import itertools
import json
import platform
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass, replace

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.events import ignore_event
from buildkit.locks.pins import Artifact
from buildkit.locks.requirements_txt import applicable, parse_requirements
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.resolve.requirements import lock_requirements
from buildkit.resolve.wheels import make_choose
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources, uv_environment
from buildkit.tools.indexes import Indexes
from buildkit.tools.local_metadata import read_requires_python
from buildkit.tools.resolver import resolve
from tests.layers.wheelmaker import make_wheel

FULL = platform.python_version()
MINOR = ".".join(FULL.split(".")[:2])
PATCH = int(FULL.split(".")[2])
TARGET = Target(python=FULL, glibc="2.36", arch=platform.machine())
INPUT = "requirements/app.in"
NEWER = ("2.0", "2.0rc1", "2.0.dev1", "1.0.post1")
PYTHONS = ("", f">={FULL}", f">={MINOR}.{PATCH + 1}", f"<{MINOR}", f"<={FULL}", f"!={MINOR}.*", "<4")
FORMS = ("", "--no-binary", "--only-binary")
MARKERS = (
    f"python_full_version >= '{FULL}'",
    f"python_full_version > '{FULL}'",
    f"python_full_version < '{MINOR}.{PATCH + 1}'",
    f"implementation_version == '{FULL}'",
    f"python_version <= '{MINOR}'",
    "sys_platform == 'win32'",
    "platform_machine != 'x86_64' or os_name == 'posix'",
)
BACKEND = """
import os
def get_requires_for_build_wheel(config=None): return []
def prepare_metadata_for_build_wheel(folder, config=None):
    info = "{name}-{version}.dist-info"
    os.mkdir(os.path.join(folder, info))
    text = open("PKG-INFO").read()
    open(os.path.join(folder, info, "METADATA"), "w").write(text)
    return info
def build_wheel(*arguments): raise SystemExit("not needed")
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@dataclass(frozen=True)
class Case:
    """A project: a wheel of 1.0, and a newer version that needs ``python``, with ``files`` of these kinds."""

    name: str
    newer: str = "2.0"
    python: str = ""
    files: str = "wheel"
    option: str = ""
    marker: str = ""

    def write(self, folder):
        make_wheel(folder, name=self.name, METADATA=metadata(self.name, "1.0", ""))
        text = metadata(self.name, self.newer, self.python)
        if "wheel" in self.files:
            make_wheel(folder, name=self.name, version=self.newer, METADATA=text)
        if "sdist" in self.files:
            write_sdist(folder, self.name, self.newer, text)

    @property
    def lines(self):
        option = f"{self.option} {self.name}\n" if self.option else ""
        return f"{option}{self.name}{f' ; {self.marker}' if self.marker else ''}\n"


def metadata(name, version, python):
    needs = f"Requires-Python: {python}\n" if python else ""
    return f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n{needs}\n"


def write_sdist(folder, name, version, text):
    files = {"PKG-INFO": text, "pyproject.toml": PYPROJECT, "backend.py": BACKEND.format(name=name, version=version)}
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))


def make_cases():
    wheels = [{"newer": newer, "python": python} for newer, python in itertools.product(NEWER, PYTHONS)]
    forms = [{"option": option, "files": files} for option, files in itertools.product(FORMS, ("wheel+sdist", "wheel"))]
    forms += [{"option": "--only-binary", "files": "sdist"}]
    markers = [{"marker": marker} for marker in MARKERS]
    unfit = {"option": "--no-binary", "files": "wheel"}  # nothing to take: pip would refuse the whole table
    return [Case(f"p{number}", **more) for number, more in enumerate([*wheels, *forms, *markers]) if more != unfit]


CASES = make_cases()


def write_index(folder, links):
    """Write a simple index (PEP 503) of the files in ``links``."""
    for file in sorted(links.iterdir()):
        page = folder / file.name.partition("-")[0] / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        python = html.escape(read_requires_python(file))
        with page.open("a") as opened:
            opened.write(f'<a href="{file.as_uri()}#{str(FileHash.of(file.read_bytes())).replace(":", "=")}"')
            opened.write(f' data-requires-python="{python}">{file.name}</a>\n' if python else f">{file.name}</a>\n")


@pytest.fixture(scope="module", params=["find-links", "index"])
def place(request, root):
    """Where the files come from: the settings of pip."""
    if request.param == "find-links":
        return IndexSettings(no_index=True, find_links=(str(root / "links"),))
    return IndexSettings(index=(root / "simple").as_uri())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("judge")
    (root / "links").mkdir()
    (root / "requirements").mkdir()
    for case in CASES:
        case.write(root / "links")
    write_index(root / "simple", root / "links")
    (root / INPUT).write_text("".join(case.lines for case in CASES))
    return root


@pytest.fixture(scope="module")
def pips_files(root, place):
    """The file that pip would install, by project."""
    argv = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--report", "-", "--quiet"]
    source = ["--index-url", place.index] if place.index else ["--no-index", "--find-links", *place.find_links]
    argv += ["--isolated", *source, "-r", str(root / INPUT)]
    done = subprocess.run(argv, check=True, capture_output=True, timeout=120)
    rows = json.loads(done.stdout)["install"]
    return {row["metadata"]["name"]: row["download_info"]["url"].rpartition("/")[2] for row in rows}


def our_files(root, place, locker, monkeypatch):
    """The file that the image would get, by project; None where locking would stop."""
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "UV_NO_CONFIG": "1"}.items():
        monkeypatch.setenv(name, value)
    sources = PackageSources(pip=place, uv=IndexSettings())
    links = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": " ".join(place.find_links)}
    env = {"PIP_INDEX_URL": place.index, "PIP_FIND_LINKS": ""} if place.index else links
    env |= uv_environment(sources, "")
    request = LockRequest(root=root, target=TARGET, locker=locker, groups=((INPUT,),), host_builds=True)
    drafts = LockDrafts(root)

    def ask(asked):
        return resolve(replace(asked, env={**asked.env, **env}, host_builds=True))

    lock_requirements(request, drafts, ask, ignore_event, upgrade=False)
    pins = applicable(parse_requirements(drafts.get("requirements/app.txt"), "app.txt"), TARGET)
    indexes = Indexes(sources, HttpSession(sources, RetryPolicy(threading.Event())), TARGET)
    choose = make_choose(lambda: indexes)
    answers = {pin.name: choose(pin, TARGET) for pin in pins}
    return {name: found.file if isinstance(found, Artifact) else None for name, found in answers.items()}


@pytest.mark.tools
@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_files_are_those_that_pip_would_install(root, place, pips_files, locker, monkeypatch):
    ours = our_files(root, place, locker, monkeypatch)
    cases = {case.name: case for case in CASES}
    differ = [cases[name] for name in cases if ours.get(name) != pips_files.get(name)]
    refused = [case for case in differ if case.name in ours and ours[case.name] is None]
    assert differ == refused
    # uv ignores upper bounds and exclusions, so the newer version is locked, and no file of it may be taken
    excluded = (f"<{MINOR}", f"!={MINOR}.*") if locker == "uv" else ()
    assert {case.python for case in refused} <= set(excluded)
    assert bool(refused) == bool(excluded)
    assert len(pips_files) > len(CASES) - len(MARKERS)
