"""What resolves and what chooses files agree with pip on a generated table of projects, or refuse; never in silence.

All projects are in one input, and in one folder, one index or one page of links on loopback, so that each of uv,
pip-tools and pip is started once for each.
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
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, replace

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import BuildkitError
from buildkit.events import Note, ignore_event
from buildkit.locks.wheels_lock import parse_wheels_lock
from buildkit.resolve.all_locks import Renewed, lock_all
from buildkit.resolve.missing_hashes import complete_hashes
from buildkit.resolve.packages import lock_packages
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.resolve.wheels import make_choose
from buildkit.tools.distribution_metadata import read_requires_python
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources, uv_environment
from buildkit.tools.indexes import Indexes
from buildkit.tools.resolver import resolve
from tests.installersettings import clear_installer_settings
from tests.layers.wheelmaker import make_wheel
from tests.resolve.fileserver import serve_folder

FULL = platform.python_version()
MINOR = ".".join(FULL.split(".")[:2])
PATCH = int(FULL.split(".")[2])
TARGET = Target(python=FULL, glibc="2.36", arch=platform.machine())
INPUT = "requirements/app.in"
NEWER = ("2.0", "2.0rc1", "2.0.dev1", "1.0.post1")
PYTHONS = ("", f">={FULL}", f">={MINOR}.{PATCH + 1}", f"<{MINOR}", f"<={FULL}", f"!={MINOR}.*", "<4", ">=3.6.*")
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
    asked: str = ""
    yanked: bool = False

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
        return f"{option}{self.name}{self.asked}{f' ; {self.marker}' if self.marker else ''}\n"


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
    yanked = [{"yanked": True, "asked": asked} for asked in ("", "==2.0", ">=1.0")]
    unfit = {"option": "--no-binary", "files": "wheel"}  # nothing to take: pip would refuse the whole table
    return [
        Case(f"p{number}", **more) for number, more in enumerate([*wheels, *forms, *markers, *yanked]) if more != unfit
    ]


CASES = make_cases()


def write_pages(root, *, is_index):
    """Write the pages of a simple index (PEP 503) of the files in ``root/links``, or one page with links alone."""
    pages, yanked = defaultdict(list), {f"{case.name}-{case.newer}" for case in CASES if case.yanked}
    for file in sorted((root / "links").iterdir()):
        project = file.name.partition("-")[0]
        python, attributes = read_requires_python(file), ""
        if python and is_index:
            attributes += f' data-requires-python="{html.escape(python)}"'
        if "-".join(file.name.removesuffix(".tar.gz").split("-")[:2]) in yanked:
            attributes += ' data-yanked="broken"'
        target = f"/links/{file.name}#{str(FileHash.of(file.read_bytes())).replace(':', '=')}"
        pages[f"simple/{project}" if is_index else "page"].append(f'<a href="{target}"{attributes}>{file.name}</a>\n')
    for folder, lines in pages.items():
        (root / folder).mkdir(parents=True)
        (root / folder / "index.html").write_text("".join(lines))


@pytest.fixture(scope="module", params=["folder", "index", "page"])
def place(request, root):
    """Where the files come from: the settings of pip."""
    if request.param == "folder":
        yield IndexSettings(no_index=True, find_links=(str(root / "links"),))
        return
    with serve_folder(root) as url:
        if request.param == "index":
            yield IndexSettings(index=f"{url}/simple")
        else:
            yield IndexSettings(no_index=True, find_links=(f"{url}/page/",))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("judge")
    (root / "links").mkdir()
    (root / "requirements").mkdir()
    for case in CASES:
        case.write(root / "links")
    write_pages(root, is_index=True)
    write_pages(root, is_index=False)
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


def our_files(root, place, locker, monkeypatch, emit=ignore_event):
    """The file that the image gets, by project."""
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "UV_NO_CONFIG": "1"}.items():
        monkeypatch.setenv(name, value)
    sources = PackageSources(pip=place, uv=IndexSettings())
    links = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": " ".join(place.find_links)}
    env = {"PIP_INDEX_URL": place.index, "PIP_FIND_LINKS": ""} if place.index else links
    env |= uv_environment(sources, "")
    request = LockRequest(root=root, target=TARGET, locker=locker, groups=((INPUT,),), host_builds=True)
    drafts = LockDrafts(root)

    def ask(asked):
        text = resolve(replace(asked, env={**asked.env, **env}, host_builds=True))
        return complete_hashes(text, indexes.find_hashes)

    with closing(HttpSession(sources, RetryPolicy(threading.Event()))) as session:
        indexes = Indexes(sources, session, TARGET)
        lock_packages(request, drafts, ask, make_choose(lambda: indexes, locker=locker), emit, upgrade=False)
    made = parse_wheels_lock(drafts.get("requirements/app.wheels.toml"), "app.wheels.toml")
    return {artifact.name: artifact.file for artifact in made.artifacts}


@pytest.mark.tools
@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_files_are_those_that_pip_would_install(root, place, pips_files, locker, monkeypatch):
    events = []
    ours = our_files(root, place, locker, monkeypatch, events.append)
    differ = {case.name: case for case in CASES if ours.get(case.name) != pips_files.get(case.name)}
    # of a page of links, uv takes yanked files, and says so
    is_page = "://" in " ".join(place.find_links)
    assert [*differ] == [case.name for case in CASES if case.yanked and case.asked != "==2.0" and is_page] * (
        locker == "uv"
    )
    said = "".join(event.text for event in events if isinstance(event, Note) and event.warning)
    assert all(f"`{name}==2.0` is yanked" in said for name in differ)
    assert len(pips_files) > len(CASES) - len(MARKERS)


OFFERED = {
    "first": {"both": "1.0", "lower": "1.0", "capped": "1.0", "yanked": "1.0"},
    "second": {"both": "2.0", "lower": "0.5", "capped": "0.5", "yanked": "0.5", "other": "1.0"},
    "own": {"named": "1.0", "both": "9.0"},
    "public": {"named": "3.0", "both": "3.0", "other": "0.1", "last": "1.0"},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Several indexes: `capped` of the first is for no Python from now on, and its `yanked` is yanked."""
    folder = tmp_path_factory.mktemp("served")
    for index, offered in OFFERED.items():
        for name, version in offered.items():
            python = f"<{MINOR}" if (index, name) == ("first", "capped") else ""
            page = folder / index / name
            page.mkdir(parents=True)
            made = make_wheel(page, name=name, version=version, METADATA=metadata(name, version, python))
            yanked = ' data-yanked=""' if (index, name) == ("first", "yanked") else ""
            needs = f' data-requires-python="{html.escape(python)}"' if python else ""
            digest = FileHash.of(made.read_bytes()).hex
            link = f'<a href="{made.name}#sha256={digest}"{yanked}{needs}>{made.name}</a>'
            (page / "index.html").write_text(link)
    with serve_folder(folder) as url:
        yield url


def lock_from(root, served, locker, monkeypatch, settings, *names, strategy=""):
    """Lock each of ``names`` alone; return versions, or the message of what refused."""
    clear_installer_settings(monkeypatch)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root / "none"))
    if settings == "pip":
        monkeypatch.setenv("PIP_INDEX_URL", f"{served}/public")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{served}/first {served}/second")
    else:
        tables = [f'[[tool.uv.index]]\nname = "{name}"\nurl = "{served}/{name}"\n' for name in OFFERED]
        tables[2] += "explicit = true\n"
        tables[3] += "default = true\n"
        tables.append('[tool.uv.sources]\nnamed = { index = "own" }\n')
        tables.insert(0, f'[tool.uv]\nindex-strategy = "{strategy}"\n' if strategy else "")
        (root / "pyproject.toml").write_text("".join(tables))
    found = {}
    for name in names:
        (root / "app.in").write_text(f"{name}\n")
        request = LockRequest(root=root, target=TARGET, locker=locker, groups=(("app.in",),))
        try:
            lock_all(request, ignore_event, Renewed(all=True))
        except BuildkitError as error:
            found[name] = f"{error.message} {error.output}"
        else:
            artifacts = parse_wheels_lock((root / "app.wheels.toml").read_text(), "app.wheels.toml").artifacts
            found[name] = artifacts[0].version
    return found


@pytest.mark.tools
@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_extra_indexes_of_pip_give_what_pip_would_install(tmp_path, served, locker, monkeypatch):
    names = ("both", "lower", "capped", "other", "last", "yanked")
    found = lock_from(tmp_path, served, locker, monkeypatch, "pip", *names)
    extra = [f"--extra-index-url={served}/{name}" for name in ("first", "second")]
    argv = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--report", "-", "--quiet"]
    argv += ["--isolated", f"--index-url={served}/public", *extra, *names]
    rows = json.loads(subprocess.run(argv, check=True, capture_output=True, timeout=120).stdout)["install"]
    assert found == {row["metadata"]["name"]: row["metadata"]["version"] for row in rows}
    assert found["both"] == "3.0"


@pytest.mark.tools
@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_indexes_of_uv_are_asked_in_order(tmp_path, served, locker, monkeypatch):
    found = lock_from(tmp_path, served, locker, monkeypatch, "uv", "lower", "other", "last")
    assert found == {"lower": "1.0", "other": "1.0", "last": "1.0"}
    found = lock_from(tmp_path, served, locker, monkeypatch, "uv", "both", "named", "capped", "yanked")
    text = (tmp_path / "app.txt").read_text()
    if locker == "uv":
        assert found["named"] == "1.0"  # of the explicit index, which nothing else may take from
        assert "buildkit-sources" not in text
        assert found.pop("both") == "1.0"
        assert f"app.in:1: capped==1.0 needs Python <{MINOR}" in found["capped"]
        assert "was yanked" in found["yanked"]
    else:
        assert "app.in:1: `named` has a source" in found.pop("named")
        versions = {"both": "3.0", "capped": "0.5", "yanked": "0.5"}
        for name, message in found.items():
            assert f"pip-tools took {name}=={versions[name]} of an index after the first one" in message
    found = lock_from(tmp_path, served, locker, monkeypatch, "uv", "both", strategy="unsafe-best-match")
    assert found == {"both": "3.0"}
