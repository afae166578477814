"""Requirements are locked for the release of the root's own Python, which a full version in the settings must name."""

import platform
import time

import pytest

from buildkit.declare.target import Target
from buildkit.errors import DefinitionError
from buildkit.events import ignore_event
from buildkit.locks.apt_lists import AptList
from buildkit.locks.wheels_lock import parse_wheels_lock
from buildkit.resolve.all_locks import check_locks, lock_all
from buildkit.resolve.request import LockDrafts, LockRequest, find_release_for
from buildkit.resolve.root_python import check_root_python
from tests.installersettings import clear_installer_settings
from tests.layers.wheelmaker import make_wheel

HERE = ".".join(platform.python_version_tuple()[:2])


@pytest.fixture
def check(tmp_path):
    def problems(python, *pins):
        (tmp_path / "base.apt.lock").write_text("# made\n" + "".join(f"{pin}\n" for pin in pins))
        target = Target(python=python, glibc="2.41", arch="x86_64")
        apt = (
            AptList(file="base.apt", suite="trixie", variant="apt"),
            AptList(file="new.apt", suite="x", variant="y"),
        )
        return check_root_python(LockRequest(root=tmp_path, target=target, apt=apt), LockDrafts(tmp_path))

    return problems


@pytest.mark.parametrize(
    "pin", ["python3.13=3.13.5-2+deb13u5", "python3.13-minimal=3.13.5-2", "python3.13=1:3.13.5~rc1"]
)
def test_release_must_be_that_of_the_root(check, pin):
    assert check("3.13.5", pin) == check("3.13", pin) == ()
    (problem,) = check("3.13.2", pin)
    assert (problem.what, problem.hint) == ("is 3.13.2, and base.apt.lock has Python 3.13.5", 'set: python = "3.13.5"')


def test_roots_that_differ_are_to_be_locked_alike(check):
    (problem,) = check("3.13.5", "python3.13=3.13.5-2", "python3.13-minimal=3.13.7-1")
    assert problem.what == "is 3.13.5, and base.apt.lock has Python 3.13.7"
    assert "--upgrade-apt" in problem.hint


def test_other_packages_and_pythons_say_nothing(check):
    assert check("3.13.2", "libpython3.13=3.13.5-2", "python3.11=3.11.2-6", "python3=3.13.5-1") == ()


def test_nothing_is_written_for_another_release(tmp_path, monkeypatch):
    (tmp_path / "base.apt").write_text("python3.13\n")
    (tmp_path / "base.apt.lock").write_text("python3.13=3.13.5-2\n")
    monkeypatch.setattr("buildkit.resolve.all_locks._jobs", lambda *_, **__: [])
    request = LockRequest(
        root=tmp_path,
        target=Target(python="3.13.2", glibc="2.41", arch="x86_64"),
        apt=(AptList(file="base.apt", suite="trixie", variant="apt"),),
    )
    with pytest.raises(DefinitionError, match=r"base\.apt\.lock has Python 3\.13\.5"):
        lock_all(request, ignore_event)
    assert any("has Python 3.13.5" in str(one) for one in check_locks(request))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An input that depends on the release of Python in two ways, and a root whose release is not this host's."""
    clear_installer_settings(monkeypatch)
    for name, value in {"UV_NO_CONFIG": "1", "PIP_NO_INDEX": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    for name, version, fields in (
        ("patchy", "1.0", ""),
        ("patchy", "2.0", f"Requires-Python: >={HERE}.98\n"),
        ("full", "1.0", f"Requires-Dist: more; python_full_version >= '{HERE}.98'\n"),
        ("more", "1.0", ""),
    ):
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{fields}\n"
        make_wheel(tmp_path / "links", name=name, version=version, METADATA=text)
    (tmp_path / "app.in").write_text("patchy\nfull\n")
    return tmp_path


def lock_for(project, release, locker, *, check=False):
    (project / "base.apt.lock").write_text(f"python{HERE}={release}-1\n" if release else "")
    request = LockRequest(
        root=project,
        target=Target(python=HERE, glibc="2.36", arch=platform.machine(), interpreter=f"/usr/bin/python{HERE}"),
        locker=locker,
        groups=(("app.in",),),
        roots={"app.in": (("base.apt",),)},
    )
    return check_locks(request) if check else lock_all(request, ignore_event)


def files(project):
    return [item.file for item in parse_wheels_lock((project / "app.wheels.toml").read_text(), "x").artifacts]


@pytest.mark.tools
@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_requirements_are_resolved_for_the_release_in_the_roots_lock(project, locker):
    lock_for(project, f"{HERE}.99", locker)
    newer = ["full-1.0-py3-none-any.whl", "more-1.0-py3-none-any.whl", "patchy-2.0-py3-none-any.whl"]
    assert files(project) == newer
    assert lock_for(project, f"{HERE}.99", locker, check=True) == ()
    (stale,) = lock_for(project, f"{HERE}.97", locker, check=True)
    assert (stale.file, stale.details) == (
        "app.txt", (f"the lock is for Python {HERE}.99, and the images have {HERE}.97",),
    )  # fmt: skip
    lock_for(project, f"{HERE}.97", locker)
    assert files(project) == ["full-1.0-py3-none-any.whl", "patchy-1.0-py3-none-any.whl"]


@pytest.mark.tools
def test_markers_of_a_root_without_a_known_release_are_not_guessed(project):
    with pytest.raises(DefinitionError, match=r"more: whether .* holds is not known from python"):
        lock_for(project, "", "uv")


def test_python_waits_for_the_roots_locks(project, monkeypatch):
    seen = []

    def lock_apt(_request, drafts, *_rest, **_options):
        time.sleep(0.1)
        drafts.decide("base.apt.lock", f"python{HERE}={HERE}.99-1\n")

    monkeypatch.setattr("buildkit.resolve.all_locks.lock_apt", lock_apt)
    monkeypatch.setattr(
        "buildkit.resolve.packages.lock_requirements",
        lambda request, drafts, *_rest, **_options: seen.append(find_release_for(request, drafts, ("app.in",))),
    )
    monkeypatch.setattr("buildkit.resolve.packages.lock_wheels", lambda *_: None)
    request = LockRequest(
        root=project,
        target=Target(python=HERE, glibc="2.36", arch="x86_64"),
        groups=(("app.in",),),
        apt=(AptList(file="base.apt", suite="trixie", variant="apt"),),
        roots={"app.in": (("base.apt",),)},
    )
    lock_all(request, ignore_event)
    assert seen == [f"{HERE}.99"]
