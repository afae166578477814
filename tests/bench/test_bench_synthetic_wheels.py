"""Synthetic wheels install like real ones, and locks change as `nox -s lock` would change them."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from buildkit.bench.lock_changes import add_pin, change_wheels, replace_pin
from buildkit.bench.synthetic_wheels import describe_wheel, make_small_wheel, make_version, marker_file
from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.layers.wheel.layer import wheel_members
from buildkit.locks.freshness import find_inputs, wheels_inputs
from buildkit.locks.requirements_txt import parse_requirements
from buildkit.locks.wheels_lock import make_wheels_lock, parse_wheels_lock
from tests.layers.wheelmaker import make_wheel

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
LOCK = f"""# buildkit inputs sha256:{"a" * 64}
# Made by `nox -s lock`.
alpha==1.0 \\
    --hash=sha256:{"1" * 64} \\
    --hash=sha256:{"2" * 64}
alpha-beta==2.0 \\
    --hash=sha256:{"3" * 64}
gamma==3.0 ; python_version >= "3.9" \\
    --hash=sha256:{"4" * 64}
"""


def _original(folder: Path) -> Path:
    metadata = "Metadata-Version: 2.1\nName: Demo-Pkg\nVersion: 1.0\n\nVersion: 1.0 is what this text speaks of.\n"
    files = {"demo_pkg/__init__.py": b"x = 1\n", "demo_pkg/a,b.txt": b"comma"}
    return make_wheel(folder, files, METADATA=metadata, executable=("demo_pkg/__init__.py",))


def test_make_version_keeps_all_files_and_adds_a_marker(tmp_path: Path) -> None:
    wheel = _original(tmp_path)
    wheel = make_version(wheel, describe_wheel(wheel, "demo-pkg", "1.0"), 7, tmp_path)
    assert wheel.file == "demo_pkg-1.0+bench7-py3-none-any.whl"
    path = tmp_path / wheel.file
    assert wheel.sha256 == FileHash(hashlib.sha256(path.read_bytes()).hexdigest())
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        metadata = archive.read("demo_pkg-1.0+bench7.dist-info/METADATA").decode()
        assert archive.read(marker_file("demo-pkg")) == b"1.0+bench7\n"
    assert {"demo_pkg/__init__.py", "demo_pkg/a,b.txt"} < names
    assert "\nVersion: 1.0+bench7\n" in metadata
    assert "Version: 1.0 is what" in metadata


def test_synthetic_wheels_are_deterministic(tmp_path: Path) -> None:
    wheel = _original(tmp_path)
    once = [
        make_version(wheel, describe_wheel(wheel, "demo-pkg", "1.0"), 7, tmp_path),
        make_small_wheel("x", "1", 99, tmp_path),
    ]
    again = [
        make_version(wheel, describe_wheel(wheel, "demo-pkg", "1.0"), 7, tmp_path),
        make_small_wheel("x", "1", 99, tmp_path),
    ]
    assert once == again
    assert make_version(wheel, describe_wheel(wheel, "demo-pkg", "1.0"), 8, tmp_path).sha256 != once[0].sha256


@pytest.mark.parametrize("small", [True, False])
def test_synthetic_wheels_can_be_installed(tmp_path: Path, small: bool) -> None:
    wheel = _original(tmp_path)
    made = (
        make_small_wheel("bench-addition-1", "1.0", 64_000, tmp_path)
        if small
        else make_version(wheel, describe_wheel(wheel, "demo-pkg", "1.0"), 7, tmp_path)
    )
    members = {member.path for member in wheel_members(tmp_path / made.file, TARGET)}
    assert f"{TARGET.site_packages}/{marker_file(made.name)}" in members
    if small:
        assert 60_000 < made.size < 70_000, "its data must not compress"


def test_replace_pin_changes_one_pin() -> None:
    wheel = describe_one("alpha", "1.0+bench1")
    changed = replace_pin(LOCK, wheel)
    assert [(pin.name, pin.version) for pin in parse_requirements(changed, "x")] == [
        ("alpha", "1.0+bench1"), ("alpha-beta", "2.0"), ("gamma", "3.0"),
    ]  # fmt: skip
    assert parse_requirements(changed, "x")[0].hashes == (wheel.sha256,)
    assert find_inputs(changed) == find_inputs(LOCK), "what it was made from did not change"
    again = replace_pin(changed, describe_one("alpha", "1.0+bench2"))
    assert parse_requirements(again, "x")[0].version == "1.0+bench2"


def test_pins_can_be_replaced_at_the_end_and_added() -> None:
    changed = replace_pin(LOCK, describe_one("gamma", "3.1"))
    assert changed.count("gamma") == 1
    added = add_pin(changed, describe_one("delta", "1"))
    assert [pin.name for pin in parse_requirements(added, "x")] == ["alpha", "alpha-beta", "gamma", "delta"]
    with pytest.raises(ValueError, match="beta is not in the lock"):
        replace_pin(LOCK, describe_one("beta", "1"))


def test_change_wheels_updates_the_wheels_lock() -> None:
    artifacts = (describe_one("alpha", "1.0"), describe_one("gamma", "3.0"))
    old = make_wheels_lock(wheels_inputs(LOCK, TARGET), TARGET, artifacts)
    wheel = describe_one("gamma", "3.1")
    text = replace_pin(LOCK, wheel)
    new = parse_wheels_lock(change_wheels(old, text, wheel, TARGET), "x")
    assert new.artifacts == (artifacts[0], wheel)
    assert new.inputs == wheels_inputs(text, TARGET) != old.inputs
    added = parse_wheels_lock(change_wheels(old, text, describe_one("delta", "1"), TARGET), "x")
    assert [one.name for one in added.artifacts] == ["alpha", "gamma", "delta"]


def describe_one(name: str, version: str):
    from buildkit.locks.pins import Artifact

    digits = FileHash.of(f"{name}{version}".encode())
    return Artifact(name=name, version=version, file=f"{name}-{version}-py3-none-any.whl", sha256=digits, size=5)
