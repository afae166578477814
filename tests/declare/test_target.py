"""The target: tags, markers and folders of images, never those of the host."""

from __future__ import annotations

from buildkit.declare.target import Target

X86 = Target(python="3.13", glibc="2.18", arch="x86_64")


def test_target_derives_versions_paths_and_debian_architecture() -> None:
    assert (X86.minor, X86.version, X86.deb_arch) == ("3.13", (3, 13), "amd64")
    assert X86.site_packages == "opt/venv/lib/python3.13/site-packages"
    exact = Target(python="3.12.7", glibc="2.36", arch="aarch64", prefix="/srv/e")
    assert (exact.minor, exact.version, exact.deb_arch) == ("3.12", (3, 12), "arm64")
    assert exact.site_packages == "srv/e/lib/python3.12/site-packages"


def test_platform_tags_go_from_newest_to_oldest_with_legacy_aliases() -> None:
    assert X86.platforms[:4] == (
        "manylinux_2_18_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_16_x86_64",
    )  # fmt: skip
    assert X86.platforms[-3:] == ("manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64")
    assert "manylinux2010_x86_64" in X86.platforms
    arm = Target(python="3.13", glibc="2.18", arch="aarch64").platforms
    assert arm == (
        "manylinux_2_18_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64",
    )  # fmt: skip


def test_markers_describe_the_image_and_not_the_host() -> None:
    assert X86.markers == {
        "implementation_name": "cpython",
        "implementation_version": "3.13.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": "3.13.0",
        "python_version": "3.13",
        "sys_platform": "linux",
    }
    assert Target(python="3.12.7", glibc="2.36", arch="x86_64").markers["python_full_version"] == "3.12.7"
