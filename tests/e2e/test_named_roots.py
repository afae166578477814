"""A root that names an image of a registry: locked, extended by apt, built by its digest, and refreshed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aptrepository import make_keys, make_package, serve_archives, write_archive
from tests.e2e.conftest import short_folder
from tests.e2e.tinyproject import Tiny, one_error
from tests.e2e.tinyroot import RootSpecimen, push_specimen

pytestmark = pytest.mark.tools
_LOCK = "requirements/images.lock"
_METHODS = Path("/usr/lib/apt/methods")
_PROGRAMS = (
    "apt-get",
    "dpkg",
    "dpkg-deb",
    "dpkg-split",
    "dpkg-query",
    "tar",
    "rm",
    "gpgv",
    "sed",
    "grep",
    "chmod",
    "mktemp",
    "cmp",
    "touch",
    "apt-config",
    "awk",
    "base64",
    "cut",
    "sort",
    "head",
    "tr",
    "find",
    "dirname",
    "readlink",
    "cp",
    "ln",
    "mv",
    "wc",
    "test",
)
_STAGE = """summary = "made-up packages on an image"
ships = true
[root]
image = "{image}"
[[root.source]]
uri = "{url}/vendor"
suite = "/"
key = "requirements/vendor.asc"
[apt]
packages = "requirements/extra.apt"
"""
_STANZA = """Package: {}
Status: install ok installed
Architecture: {}
Version: {}
Maintainer: Tester <tester@example.invalid>
Description: made up

"""
_INSTALLED = (("apt", "amd64", "2.9"), ("present", "all", "1.0"))


def _specimen(name: str, mark: str = "") -> RootSpecimen:
    """A root with the host's apt and dpkg, and their records."""
    programs = [Path("/usr/bin", name) for name in _PROGRAMS]
    methods = [path for name in ("http", "gpgv", "store", "copy", "file", "sqv") if (path := _METHODS / name).exists()]
    status = "".join(_STANZA.format(*package) for package in _INSTALLED)
    files = {
        "etc/os-release": 'PRETTY_NAME="Debian made up"\nID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n',
        "etc/passwd": "root:x:0:0::/:/bin/sh\n_apt:x:42:65534::/:/bin/sh\n",
        "etc/group": "root:x:0:\nnogroup:x:65534:\n",
        "etc/mark": mark,
        "usr/local/lib/python3.13/site-packages/vendored-1.0.dist-info/METADATA": "Name: vendored\nVersion: 1.0\n",
        "var/lib/dpkg/status": status,
        "var/lib/dpkg/available": "",
        "var/lib/dpkg/info/format": "1\n",
        "var/lib/dpkg/updates/none": "",
        "var/lib/apt/lists/partial/none": "",
        "var/cache/apt/archives/partial/none": "",
        "var/log/apt/none": "",
        "etc/apt/sources.list.d/none": "",
        "etc/apt/preferences.d/none": "",
        "etc/apt/apt.conf.d/own": 'APT::Sandbox::User "root";\nAPT::Update::Pre-Invoke {"touch /etc/ran";};\n',
        "etc/apt/trusted.gpg.d/none": "",
        "etc/dpkg/dpkg.cfg.d/none": "",
        **dict.fromkeys(("usr/bin/diff", "usr/bin/ldconfig", "usr/bin/start-stop-daemon"), "#!/bin/sh\n"),
    }
    scripts = {
        str(path)[1:]: path.read_bytes()
        for path in (*Path("/usr/share/dpkg").glob("*table"), Path("/usr/bin/apt-key"))
        if path.exists()
    }
    return RootSpecimen(
        name=name,
        more=(*programs, *methods),
        files={path: text.encode() for path, text in files.items()} | scripts,
    )


@pytest.fixture
def tiny(tmp_path: Path, registry: str, links: Path) -> Iterator[Tiny]:
    tiny = Tiny(short_folder(), registry=registry, links=links)
    with make_keys(tmp_path, "vendor") as (vendor,), serve_archives(tmp_path / "www") as url:
        packages = [make_package(tmp_path, "extra", "1.0", {"usr/share/extra": "extra"})]
        packages.append(make_package(tmp_path, "present", "1.0", {"usr/share/present": "old"}))
        write_archive(tmp_path / "www/vendor", packages, vendor)
        tiny.env |= {"no_proxy": "127.0.0.1"}
        tiny.write("pyproject.toml", '[tool.buildkit]\nname = "tiny"\nbytecode = false\n')
        tiny.write("requirements/extra.apt", "extra\npresent\n")
        tiny.write("requirements/vendor.asc", vendor.public)
        tiny.write("stages/base/stage.toml", _STAGE.format(url=url, image=f"{registry}/named/debian:stable"))
        yield tiny
    tiny.remove()


def test_image_by_name_is_locked_extended_and_built_by_its_digest(tiny: Tiny, registry: str, tmp_path: Path) -> None:
    name = f"{registry}/named/debian:stable"
    pinned = push_specimen(registry, tmp_path, tiny.env, _specimen("named/debian:stable"))
    assert f"{_LOCK}: the lock is missing" in tiny.refuse("base", code=2)
    tiny.lock()
    (locked,) = tomllib.loads((tiny.project / _LOCK).read_text())["image"]
    digest = pinned.partition("@")[2]
    assert (locked["name"], locked["digest"], list(locked["platforms"].values())) == (name, digest, [digest])
    (contents,) = locked["contents"].values()
    assert contents["packages"] == {"apt": "2.9", "present": "1.0"}
    assert (contents["system"], contents["codename"]) == ("Debian made up", "trixie")
    added = (tiny.project / "requirements/extra.apt.lock").read_text()
    assert "\nextra=1.0\n" in added
    assert "present" not in added, "the image has it"
    assert not Path("/etc/ran").exists(), "no command of the image's apt.conf ran here"

    by_name = tiny.build("base", "--frozen")
    assert by_name.built().keys() == {"base/apt requirements/extra.apt"}, "lock has pulled the image"
    bill = tiny.run("sbom", "base").text
    assert all(f'"name": "{package}"' in bill for package in ("apt", "present", "extra"))
    keys = {layer["name"]: layer["key"] for layer in (by_name.report or {})["layers"]}

    _check_altered(tiny, name)
    _check_refreshed(tiny, registry, tmp_path, name)
    tiny.replace("stages/base/stage.toml", name, pinned)
    tiny.lock()
    by_digest = tiny.build("base", "--frozen")
    assert keys == {layer["name"]: layer["key"] for layer in (by_digest.report or {})["layers"]}

    tiny.replace("pyproject.toml", "bytecode", 'site-packages = "system"\nbytecode')
    tiny.replace("stages/base/stage.toml", "[apt]", '[wheels]\nlocks = ["requirements/app.txt"]\n[apt]')
    tiny.write("requirements/app.in", "alpha\nvendored\n")
    tiny.lock()
    assert "\nalpha==" in (text := (tiny.project / "requirements/app.txt").read_text())
    assert "vendored" not in text, "the image has it"
    tiny.build("base", "--frozen")
    assert "include-system-site-packages = true" in tiny.run_image("base", "cat", "/opt/venv/pyvenv.cfg")
    tiny.write("requirements/app.in", "alpha\nvendored>1\n")
    assert "app.in:2: vendored>1 is wanted, and the root image has vendored 1.0" in one_error(tiny.run("lock"), 2)


def _check_altered(tiny: Tiny, name: str) -> None:
    """Change what the image holds: nothing is built from it, and `lock` reads the image again."""
    before = (tiny.project / _LOCK).read_text()
    problem = f"{name}: what it holds on {next(iter(tomllib.loads(before)['image'][0]['contents']))} was not read of"
    for old, new in (('codename = "trixie"', 'codename = "bookworm"'), ('apt = "2.9"\n', "")):
        tiny.replace(_LOCK, old, new)
        checked = tiny.run("lock", "--check")
        assert (checked.code, problem in checked.text) == (1, True), checked.text
        assert problem in (refused := tiny.refuse("base", code=2))
        assert "nox -s lock" in refused
        tiny.lock()
        assert (tiny.project / _LOCK).read_text() == before


def _check_refreshed(tiny: Tiny, registry: str, tmp_path: Path, name: str) -> None:
    """Move the name: a check says so and passes, and only `--upgrade-images` takes it."""
    before = (tiny.project / _LOCK).read_text()
    (tmp_path / "moved").mkdir()
    moved = push_specimen(registry, tmp_path / "moved", tiny.env, _specimen("named/debian:stable", "moved"))
    checked = tiny.run("lock", "--check")
    short = moved.partition("sha256:")[2][:12]
    assert checked.code == 0, checked.text
    assert f"{name} has moved: sha256:" in checked.text
    assert f" → sha256:{short}" in checked.text
    assert (tiny.project / _LOCK).read_text() == before
    assert f" → sha256:{short}" in tiny.run("lock", "--upgrade-images").text
