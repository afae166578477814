"""Wheels on a root that brings packages: those are not locked again, and everything else fits them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from stagegraphs import graph

from buildkit.declare.target import Target
from buildkit.digest import Digest
from buildkit.errors import DefinitionError
from buildkit.events import ignore_event
from buildkit.layers.wheel.prefix import prefix_members
from buildkit.locks.images_lock import IMAGES_LOCK, ImageContents, LockedImage, render_images_lock
from buildkit.locks.system_packages import find_folders, find_lock_images, find_system_packages
from buildkit.resolve.request import LockDrafts, LockRequest, lock_of
from buildkit.resolve.requirements import find_stale, lock_requirements
from buildkit.tools.installed_wheels import find_conflicts
from buildkit.tools.resolver import ResolveRequest, resolve
from tests.layers.wheelmaker import make_wheel

HERE = "{}.{}".format(*sys.version_info[:2])
TARGET = Target(python=HERE, glibc="2.41", arch="x86_64", interpreter=f"/usr/bin/python{HERE}", sees_system=True)
INPUT, IMAGE, OTHER = "requirements/api.in", "registry.test/vendor:1", "registry.test/vendor:2"
BASE = {"torch": "2.5.0+vendor", "numpy": "1.26.4", "odd": "not-a-version"}


def add_wheel(links: Path, name: str, version: str, *needs: str) -> None:
    lines = "".join(f"Requires-Dist: {need}\n" for need in needs)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}\n"
    make_wheel(links, {f"{name}.py": b""}, name=name, version=version, METADATA=metadata)


def write_lock(folder: Path, images: Mapping[str, Mapping[str, str]]) -> None:
    entries = {
        name: LockedImage(
            name=name,
            digest=Digest("a" * 64),
            locked="now",
            platforms={"linux/amd64": Digest("b" * 64)},
            contents={"amd64": ImageContents(id="ubuntu", python={f"usr/local/lib/python{HERE}/dist-packages": found})},
        )
        for name, found in images.items()
    }
    (folder / IMAGES_LOCK).write_text(render_images_lock(entries))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    links = tmp_path / "links"
    links.mkdir()
    add_wheel(links, "torch", "2.6.0")
    add_wheel(links, "vision", "1.0", "torch>=2.5", "numpy<2", "extra")
    add_wheel(links, "vision", "2.0", "torch>=2.6")
    add_wheel(links, "extra", "3.0")
    (tmp_path / "requirements").mkdir()
    (tmp_path / INPUT).write_text("vision\n")
    write_lock(tmp_path, {IMAGE: BASE})
    for name, value in {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(links), "UV_NO_CONFIG": "1"}.items():
        monkeypatch.setenv(name, value)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def request(root: Path, locker: str = "uv", target: Target = TARGET) -> LockRequest:
    return LockRequest(root=root, target=target, locker=locker, groups=((INPUT,),), lock_images={INPUT: (IMAGE,)})


def lock(root: Path, locker: str = "uv") -> str:
    drafts = LockDrafts(root)

    def ask(asked: ResolveRequest) -> str:
        env = {"UV_NO_INDEX": "1"} if locker == "uv" else {}
        return resolve(replace(asked, env={**asked.env, **env}, host_builds=True))

    lock_requirements(request(root, locker), drafts, ask, ignore_event, upgrade=False)
    drafts.write()
    return (root / lock_of(INPUT)).read_text()


@pytest.mark.tools
@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_lock_fits_what_the_root_has_and_does_not_name_it(root: Path, locker: str) -> None:
    text = lock(root, locker)
    assert [line.split()[0] for line in text.splitlines() if "==" in line] == ["extra==3.0", "vision==1.0"]
    assert "torch" not in text.replace("requirements", ""), "neither pinned nor said to be needed"


@pytest.mark.tools
@pytest.mark.parametrize(
    ("locker", "wanted", "place"),
    [
        ("uv", "torch>=2.6\n", f"{INPUT}:1"),
        ("uv", "extra\nvision>=2\n", INPUT),
        ("pip-tools", "extra\nvision>=2\n", INPUT),
    ],
)
def test_conflict_names_package_wanted_and_what_the_root_has(root: Path, locker: str, wanted: str, place: str) -> None:
    (root / INPUT).write_text(wanted)
    with pytest.raises(DefinitionError) as caught:
        lock(root, locker)
    assert f"{place}: torch>=2.6 is wanted, and the root image has torch 2.5.0+vendor" in str(caught.value)
    assert 'site-packages = "own"' in (caught.value.hint or str(caught.value))


@pytest.mark.tools
def test_lock_is_stale_for_a_root_with_other_packages_and_for_none(root: Path) -> None:
    lock(root)
    drafts = LockDrafts(root)
    assert find_stale(request(root), drafts, (INPUT,)) == ()
    own = replace(TARGET, sees_system=False)
    for asked, images in ((request(root, target=own), BASE), (request(root), {**BASE, "torch": "2.5.1"})):
        write_lock(root, {IMAGE: images})
        (stale,) = find_stale(asked, drafts, (INPUT,))
        assert stale.what == "the lock was made for a root with other Python packages"


def test_roots_of_one_lock_must_have_the_same_packages(root: Path) -> None:
    found = graph(
        a=f'[root]\nimage = "{IMAGE}"\n[wheels]\nlocks = ["requirements/api.txt"]',
        b=f'[root]\nimage = "{OTHER}"\n[wheels]\nlocks = ["requirements/api.txt"]',
    )
    images = find_lock_images(found)["requirements/api.txt"]
    assert images == (IMAGE, OTHER)
    write_lock(root, {IMAGE: BASE, OTHER: {**BASE, "torch": "2.7"}})
    read = LockDrafts(root).read
    with pytest.raises(
        DefinitionError, match=r"vendor:1 has torch 2\.5\.0\+vendor and .*vendor:2 has torch 2\.7"
    ) as caught:
        find_system_packages("requirements/api.txt", images, read, TARGET)
    assert caught.value.hint == "give each root a lock of its own"
    with pytest.raises(DefinitionError, match="Debian has no numpy"):
        find_system_packages("requirements/api.txt", ("", IMAGE), read, TARGET)
    assert find_system_packages("x", images, read, replace(TARGET, sees_system=False)) == {}


def test_folders_are_those_of_the_interpreter() -> None:
    target = replace(TARGET, python="3.12")
    assert find_folders(replace(target, interpreter="/opt/conda/bin/python3.12")) == (
        "opt/conda/lib/python3.12/site-packages",
        "opt/conda/lib/python3.12/dist-packages",
    )
    assert find_folders(target)[:2] == (
        "usr/local/lib/python3.12/site-packages",
        "usr/local/lib/python3.12/dist-packages",
    )
    assert find_folders(target)[-1] == "usr/lib/python3/dist-packages"


@pytest.mark.parametrize(
    "output",
    [
        "Because x==1 depends on torch>=2.6,<3, we\nconclude that torch==2.5 and x are incompatible.",
        "The conflict is caused by:\n    x 1 depends on torch<3 and >=2.6; The user requested (constraint) torch==2.5",
    ],
)  # fmt: skip
def test_conflicts_are_read_in_the_output_of_both_resolvers(output: str) -> None:
    (name, wanted, installed), *_ = find_conflicts(output, [("torch", "2.5"), ("torchvision", "1")])
    assert (name, installed) == ("torch", "2.5")
    assert wanted in (">=2.6,<3", "<3")


@pytest.mark.tools
@pytest.mark.parametrize("sees_system", [True, False])
def test_environment_sees_the_packages_of_the_interpreter_below_its_own(tmp_path: Path, *, sees_system: bool) -> None:
    """A real Python, with the layer's files; `pip` is what the interpreter brings."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    target = replace(TARGET, prefix=str(tmp_path / "venv"), interpreter=python, sees_system=sees_system)
    for member in prefix_members(target):
        place = Path("/", member.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "symlink":
            place.symlink_to(member.target)
        elif member.kind == "directory":
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(b"".join(member.content()))
    site = Path("/", target.site_packages)
    (site / "shadow.py").write_text("")
    found = "bool(u.find_spec('pip')), *[p for p in sys.path if 'site-packages' in p]"
    code = f"import sys, importlib.util as u; print({found})"
    argv = (f"{target.prefix}/bin/python", "-I", "-c", code)
    seen, first, *others = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    assert (seen, first) == (str(sees_system), str(site))
    assert bool(others) is sees_system
