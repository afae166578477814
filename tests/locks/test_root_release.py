"""The release of Python that roots have, from their apt locks."""

import pytest

from buildkit.declare.graph import make_graph
from buildkit.declare.stage_file import parse_stage
from buildkit.declare.target import Target
from buildkit.locks.root_release import find_root_release, find_roots, target_of

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
LOCKS = {
    "base.apt.lock": "# made\npython3.13=3.13.5-2+deb13u5\npython3.13-minimal=3.13.5-2+deb13u5\n",
    "tools.apt.lock": "curl=8.14.1-2\n",
    "sid.apt.lock": "libpython3.13-minimal=3.13.9-1\npython3.13=3.13.9-1\npython3=3.13.5-1\n",
    "none.apt.lock": "python3.11=3.11.2-6\nlibpython3.13=3.13.5-2\npython3=3.13.5-1\n",
    "epoch.apt.lock": "python3.13=1:3.13.5~rc1\n",
}
DEBIAN = 'summary = "x"\n[root]\nsuite = "trixie"\nvariant = "apt"\npackages = "{}"\n'
WHEELS = 'summary = "x"\n{}\n[wheels]\nlocks = ["{}.txt"]\n'
STAGES = {
    "base": DEBIAN.format("base.apt"),
    "sid": DEBIAN.format("sid.apt"),
    "vendor": f'summary = "x"\n[root]\nimage = "registry.example/x@sha256:{"0" * 64}"\n',
    "tools": 'summary = "x"\nfrom = "base"\n[apt]\npackages = "tools.apt"\n',
    "alone": WHEELS.format("", "alone"),
    "app": WHEELS.format('from = "tools"\ninclude = ["alone"]', "app"),
    "both": WHEELS.format('from = "sid"\ninclude = ["app"]', "both"),
    "theirs": WHEELS.format('from = "vendor"', "theirs"),
}


def release(*roots, target=TARGET):
    return find_root_release(roots, LOCKS.get, target)


def test_roots_of_a_lock_are_those_of_all_images_with_its_wheels():
    stages = {name: parse_stage(text, name=name, file=f"{name}.toml") for name, text in STAGES.items()}
    below, sid = ("base.apt", "tools.apt"), ("sid.apt",)
    assert find_roots(make_graph(stages)) == {
        "alone.txt": (below, sid),
        "app.txt": (below, sid),
        "both.txt": (sid,),
        "theirs.txt": ((),),
    }


def test_release_is_that_of_debians_python_of_the_same_minor_version():
    assert release(("base.apt", "tools.apt")) == release(("tools.apt", "base.apt")) == "3.13.5"
    assert release(("epoch.apt",)) == "3.13.5"
    assert release(("none.apt",)) == release(("missing.apt",)) == release(()) == release() == ""


def test_roots_that_differ_or_are_not_known_give_no_release():
    assert release(("base.apt",), ("sid.apt",)) == release(("base.apt",), ()) == ""
    assert release(("base.apt",), ("base.apt", "tools.apt")) == "3.13.5"


@pytest.mark.parametrize("interpreter", ["/opt/python/bin/python3.13", "/usr/local/bin/python3.13"])
def test_another_interpreter_is_not_debians(interpreter):
    other = Target(python="3.13", glibc="2.41", arch="x86_64", interpreter=interpreter)
    assert release(("base.apt",), target=other) == ""


def test_declared_release_needs_no_root():
    exact = Target(python="3.13.2", glibc="2.41", arch="x86_64")
    assert release(("base.apt",), target=exact) == release(target=exact) == "3.13.2"


def test_lock_names_the_release_it_was_made_for():
    assert target_of("# buildkit inputs sha256:x\n# buildkit python 3.13.7\na==1\n", TARGET).python == "3.13.7"
    assert target_of("a==1\n", TARGET) == TARGET
