"""One lock of requirements for two processors, and a wheels lock and an apt lock for each of them."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.declare.project import parse_project
from buildkit.errors import DefinitionError
from buildkit.events import ignore_event
from buildkit.locks.apt_lists import AptList
from buildkit.locks.pins import AptPin
from buildkit.resolve.all_locks import check_locks, lock_all
from buildkit.resolve.request import LockRequest
from tests.installersettings import clear_installer_settings
from tests.layers.wheelmaker import make_wheel

X86, ARM = "manylinux_2_28_x86_64", "manylinux_2_28_aarch64"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An input whose wheels are pure, for each processor, and for one alone; no index is asked."""
    clear_installer_settings(monkeypatch)
    for name, value in {"UV_NO_CONFIG": "1", "PIP_NO_INDEX": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    add_wheel(tmp_path, "pure", "any")
    add_wheel(tmp_path, "native", X86)
    add_wheel(tmp_path, "native", ARM)
    add_wheel(tmp_path, "mkl", X86)
    (tmp_path / "app.in").write_text("pure\nnative\nmkl ; platform_machine == 'x86_64'\n")
    (tmp_path / "base.apt").write_text("python3.13\n")
    return tmp_path


def add_wheel(folder: Path, name: str, tag: str) -> None:
    python = "py3-none" if tag == "any" else "cp313-cp313"
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\n"
    wheel = f"Wheel-Version: 1.0\nTag: {python}-{tag}\n"
    made = make_wheel(folder / "links", name=name, version="1.0", METADATA=text, WHEEL=wheel)
    made.rename(made.with_name(f"{name}-1.0-{python}-{tag}.whl"))


def request_for(folder: Path, arch: str = "['x86_64', 'aarch64']", **changes) -> LockRequest:
    project = parse_project(f"tool.buildkit.arch = {arch}\ntool.buildkit.interpreter = '/usr/bin/python3.13'", folder)
    target, *others = (each.target for each in project.of_each_arch())
    return LockRequest(
        root=folder, target=target, others=tuple(others), groups=(("app.in",),), roots={"app.in": (("base.apt",),)},
        apt=(AptList(file="base.apt", suite="trixie", variant="extract"),), **changes,
    )  # fmt: skip


def lock(request: LockRequest, monkeypatch, versions=None, *, check: bool = False) -> list[str]:
    """Lock, and return the files that changed; apt gives ``versions`` of Python by processor."""
    known = {"amd64": "3.13.5-2", "arm64": "3.13.5-2+b1"} | (versions or {})

    def resolve(asked):
        return (AptPin(name="python3.13", version=known[asked.arch]),)

    monkeypatch.setattr("buildkit.resolve.all_locks.resolve_apt", resolve)
    return [change.file for change in (check_locks(request) if check else lock_all(request, ignore_event))]


def files(path: Path) -> list[str]:
    return [artifact["file"] for artifact in tomllib.loads(path.read_text())["artifact"]]


@pytest.mark.tools
def test_each_processor_has_a_wheels_lock_and_an_apt_lock_and_requirements_are_locked_once(project, monkeypatch):
    changed = lock(request_for(project), monkeypatch)
    assert changed == [
        "app.aarch64.wheels.toml",
        "app.txt",
        "app.wheels.toml",
        "base.aarch64.apt.lock",
        "base.apt.lock",
    ]
    mkl, pure = f"mkl-1.0-cp313-cp313-{X86}.whl", "pure-1.0-py3-none-any.whl"
    assert files(project / "app.wheels.toml") == [mkl, f"native-1.0-cp313-cp313-{X86}.whl", pure]
    assert files(project / "app.aarch64.wheels.toml") == [f"native-1.0-cp313-cp313-{ARM}.whl", pure]
    assert "python3.13=3.13.5-2+b1" in (project / "base.aarch64.apt.lock").read_text()
    assert lock(request_for(project), monkeypatch, check=True) == []


@pytest.mark.tools
def test_a_second_processor_adds_locks_and_changes_none(project, monkeypatch):
    lock(request_for(project, "'x86_64'"), monkeypatch)
    before = {path.name: path.read_bytes() for path in project.glob("*.*") if path.is_file()}
    changes = lock(request_for(project), monkeypatch, check=True)
    assert changes == ["app.aarch64.wheels.toml", "base.aarch64.apt.lock"]
    assert lock(request_for(project), monkeypatch) == changes
    assert {name: (project / name).read_bytes() for name in before} == before


@pytest.mark.tools
def test_a_wheel_that_one_processor_lacks_is_named_with_both_ways_out(project, monkeypatch):
    (project / "app.in").write_text("mkl\n")
    with pytest.raises(DefinitionError) as caught:
        lock(request_for(project), monkeypatch)
    (problem,) = caught.value.problems
    assert problem.what == "mkl==1.0: no wheel fits Python 3.13, glibc 2.41, aarch64, and there is no sdist"
    assert "pin a version that has one for aarch64" in problem.hint
    assert "mkl ; platform_machine != 'aarch64'" in problem.hint
    assert sorted(path.name for path in project.iterdir()) == ["app.in", "base.apt", "links"]  # nothing was written


def test_one_requirements_lock_needs_one_release_of_python(project, monkeypatch):
    with pytest.raises(DefinitionError) as caught:
        lock(replace(request_for(project), groups=()), monkeypatch, {"arm64": "3.13.7-1"})
    (problem,) = caught.value.problems
    assert problem.what == (
        "its locks differ: base.apt.lock has Python 3.13.5; base.aarch64.apt.lock has Python 3.13.7"
    )
    assert "--upgrade-apt" in problem.hint
