"""A full version in the settings is that of the root's own Python."""

import pytest

from buildkit.declare.target import Target
from buildkit.errors import DefinitionError
from buildkit.events import ignore_event
from buildkit.resolve.all_locks import lock_all
from buildkit.resolve.request import AptInput, LockDrafts, LockRequest
from buildkit.resolve.root_python import check_root_python


@pytest.fixture
def check(tmp_path):
    def problems(python, *pins):
        (tmp_path / "base.apt.lock").write_text("# made\n" + "".join(f"{pin}\n" for pin in pins))
        target = Target(python=python, glibc="2.41", arch="x86_64")
        apt = (
            AptInput(file="base.apt", suite="trixie", variant="apt"),
            AptInput(file="new.apt", suite="x", variant="y"),
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


def test_other_packages_and_pythons_say_nothing(check):
    assert check("3.13.2", "libpython3.13=3.13.5-2", "python3.11=3.11.2-6", "python3=3.13.5-1") == ()


def test_nothing_is_written_for_another_release(tmp_path, monkeypatch):
    (tmp_path / "base.apt").write_text("python3.13\n")
    (tmp_path / "base.apt.lock").write_text("python3.13=3.13.5-2\n")
    monkeypatch.setattr("buildkit.resolve.all_locks._jobs", lambda *_: [])
    request = LockRequest(
        root=tmp_path,
        target=Target(python="3.13.2", glibc="2.41", arch="x86_64"),
        apt=(AptInput(file="base.apt", suite="trixie", variant="apt"),),
    )
    with pytest.raises(DefinitionError, match=r"base\.apt\.lock has Python 3\.13\.5"):
        lock_all(request, upgrade=False, check=False, emit=ignore_event)
    assert any(
        "has Python 3.13.5" in str(one) for one in lock_all(request, upgrade=False, check=True, emit=ignore_event)
    )
