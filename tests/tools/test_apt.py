"""Resolving Debian packages: parsing apt's output, and the real tool against a mirror."""

import pytest

from buildkit.errors import BuildError, DefinitionError, ToolError
from buildkit.locks.pins import AptPin
from buildkit.tools import apt
from buildkit.tools.apt import AptResolveRequest, parse_simulation, render_preferences, resolve_apt
from buildkit.tools.process import CommandResult

OUTPUT = """\
I: automatically chosen mode: root
Inst gcc-14-base (14.2.0-19 Debian:13.7/stable [amd64])
Conf gcc-14-base (14.2.0-19 Debian:13.7/stable [amd64])
Inst bsdutils (1:2.41.5-0+deb13u1 Debian:13.7/stable, Debian-Security:13/stable-security [amd64])
Inst libc6 [2.41-12] (2.41-12+deb13u4 Debian:13.7/stable [amd64]) []
Inst libfoo:amd64 (1.0~rc1-1 Debian:13.7/stable [amd64])
Inst gcc-14-base (14.2.0-19 Debian:13.7/stable [amd64])
"""
BASE = AptPin(name="libc6", version="2.41-12")


def test_simulation_output_is_parsed():
    assert [(pin.name, pin.version) for pin in parse_simulation(OUTPUT)] == [
        ("bsdutils", "1:2.41.5-0+deb13u1"),
        ("gcc-14-base", "14.2.0-19"),
        ("libc6", "2.41-12+deb13u4"),
        ("libfoo", "1.0~rc1-1"),
    ]


def request(**more):
    given = {"packages": ("gcc", "libc6"), "suite": "trixie", "variant": "minbase", "arch": "amd64", "file": "b.apt"}
    return AptResolveRequest(**{**given, **more})


def test_kept_versions_are_requested_exactly(monkeypatch):
    seen = []

    def run(command):
        seen.append(command.argv)
        return CommandResult(code=0, stdout=b"", stderr=OUTPUT.encode())

    monkeypatch.setattr(apt, "run", run)
    assert len(resolve_apt(request(kept=(BASE,), components=("main", "contrib")))) == 4
    assert seen[0][seen[0].index("--include") + 1] == "libc6=2.41-12,gcc"
    assert "main,contrib" in seen[0]
    assert "--simulate" in seen[0]


@pytest.mark.parametrize(
    ("output", "error", "words"),
    [
        (
            "E: Unable to locate package nosuch\nE: Unable to locate package nor",
            DefinitionError,
            ("nosuch", "nor", "b.apt"),
        ),
        ("E: Package 'bar' has no installation candidate", DefinitionError, ("bar",)),
        ("E: Version '2.41-1' for 'libc6' was not found", BuildError, ("libc6=2.41-1",)),
        ("E: something else", ToolError, ("mmdebstrap failed",)),
    ],
)
def test_apt_failures_are_explained(monkeypatch, output, error, words):
    def run(_command):
        raise ToolError("mmdebstrap failed", output=output)

    monkeypatch.setattr(apt, "run", run)
    with pytest.raises(error) as caught:
        resolve_apt(request())
    assert all(word in str(caught.value) for word in words)


VIRTUAL = """
Package awk is a virtual package provided by:
  original-awk 2025-01-16-1
  mawk 1.3.4.20250131-1
  gawk 1:5.2.1-2+b1

Package libgl1-mesa-glx is not available, but is referred to by another package.

E: Package 'awk' has no installation candidate
E: Package 'libgl1-mesa-glx' has no installation candidate
E: Unable to locate package libc7
E: Version '1.0' for 'zlib1g' was not found
"""


def test_names_that_cannot_be_installed_get_what_to_write_instead(monkeypatch):
    """The output is apt 3.0's, in a simulation of Debian 13."""

    def run(_command):
        raise ToolError("mmdebstrap failed", output=VIRTUAL)

    monkeypatch.setattr(apt, "run", run)
    with pytest.raises(DefinitionError) as caught:
        resolve_apt(request(packages=("awk", "libgl1-mesa-glx", "libc7", "zlib1g=1.0"), preferred=(BASE,)))
    assert {problem.key: (problem.what, problem.hint) for problem in caught.value.problems} == {
        "awk": (
            "is a virtual package of trixie, which 3 packages provide",
            "name one: gawk, mawk, original-awk",
        ),
        "libgl1-mesa-glx": ("trixie has no such package", "it is a name of older releases; write libgl1"),
        "libc7": ("trixie has no such package", "did you mean `libc6`?"),
        "zlib1g": ("trixie has no version 1.0 of it", "write zlib1g alone: the lock names the exact version"),
    }


def test_version_that_the_list_asks_for_is_requested(monkeypatch):
    seen = []

    def run(command):
        seen.append(command.argv)
        return CommandResult(code=0, stdout=b"", stderr=OUTPUT.encode())

    monkeypatch.setattr(apt, "run", run)
    resolve_apt(request(packages=("gcc=14", "libc6=2.41-12"), kept=(BASE,)))
    assert seen[0][seen[0].index("--include") + 1] == "libc6=2.41-12,gcc=14"
    with pytest.raises(DefinitionError, match=r"libc6.*asks for 2\.40, and the root below has 2\.41-12"):
        resolve_apt(request(packages=("libc6=2.40",), kept=(BASE,)))


def test_preferences_pin_the_exact_versions():
    assert render_preferences((BASE,)) == "Package: libc6\nPin: version 2.41-12\nPin-Priority: 1001\n"


@pytest.mark.network
@pytest.mark.tools
def test_real_mmdebstrap_resolves_packages():
    wanted = request(packages=("python3.13-minimal",), variant="extract")
    pins = resolve_apt(wanted)
    names = [pin.name for pin in pins]
    assert names == sorted(names)
    assert {"libc6", "libpython3.13-minimal", "python3.13-minimal"} <= set(names)
    assert "dpkg" not in names
    more = resolve_apt(request(packages=("netbase",), variant="extract", kept=pins))
    assert set(more) - set(pins) == {pin for pin in more if pin.name == "netbase"}
    assert "dpkg" in {pin.name for pin in resolve_apt(request(packages=(), variant="apt"))}
    with pytest.raises(DefinitionError, match="no-such-package"):
        resolve_apt(request(packages=("no-such-package",), variant="extract"))
    with pytest.raises(BuildError, match=r"libc6=0\.1"):
        resolve_apt(request(packages=(), variant="extract", kept=(AptPin(name="libc6", version="0.1"),)))


@pytest.mark.network
@pytest.mark.tools
def test_old_versions_are_preferred_only_while_a_mirror_has_them():
    newest = {pin.name: pin for pin in resolve_apt(request(packages=("netbase",), variant="extract"))}
    gone = AptPin(name="netbase", version="0.1")
    again = resolve_apt(request(packages=("netbase",), variant="extract", preferred=(gone,)))
    assert {pin.name: pin for pin in again} == newest
