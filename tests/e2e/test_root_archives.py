"""A root from a moment of the archive and from a further archive, through the sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aptrepository import SigningKey, make_keys, make_package, serve_archives, write_archive
from tests.e2e.conftest import short_folder
from tests.e2e.tinyproject import Tiny, one_error

pytestmark = pytest.mark.tools
_STAGE = """summary = "made-up packages"
ships = true
[root]
suite = "trixie"
variant = "extract"
packages = "requirements/base.apt"
snapshot = "2026-11-20T00:00:00Z"
key = "requirements/debian.asc"
[[root.source]]
uri = "{url}/vendor"
suite = "/"
key = "requirements/vendor.asc"
"""


@pytest.fixture
def tiny(tmp_path: Path, registry: str) -> Iterator[Tiny]:
    with make_keys(tmp_path, "debian", "vendor") as (debian, vendor):
        yield from _serve(tmp_path, registry, debian, vendor)


def _serve(tmp_path: Path, registry: str, debian: SigningKey, vendor: SigningKey) -> Iterator[Tiny]:
    hello, tool = (make_package(tmp_path, name, "1.0", {f"usr/share/{name}": name}) for name in ("hello", "tool"))
    for name in ("debian", "debian-security"):
        folder = tmp_path / f"www/snapshots/{name}/20261120T000000Z"
        write_archive(folder, [hello], debian, suites=("trixie", "trixie-updates", "trixie-security"), days_valid=-9)
    write_archive(tmp_path / "www/vendor", [tool], vendor)
    tiny = Tiny(short_folder(), registry=registry)
    with serve_archives(tmp_path / "www") as url:
        tiny.env |= {"http_proxy": url, "no_proxy": "127.0.0.1"}
        tiny.write("pyproject.toml", '[tool.buildkit]\nname = "tiny"\nbytecode = false\n')
        tiny.write("requirements/base.apt", "hello\ntool\n")
        tiny.write("requirements/debian.asc", debian.public)
        tiny.write("requirements/vendor.asc", vendor.public)
        tiny.write("stages/base/stage.toml", _STAGE.format(url=url))
        yield tiny
    tiny.remove()


def test_root_of_a_moment_and_a_further_archive_is_locked_and_built(tiny: Tiny) -> None:
    tiny.lock()
    assert "\nhello=1.0\ntool=1.0\n" in (tiny.project / "requirements/base.apt.lock").read_text()
    first = tiny.build("base")
    assert first.built() != {}

    other = (tiny.project / "requirements/debian.asc").read_text()
    tiny.write("requirements/vendor.asc", other)
    stale = tiny.refuse("base", code=2)
    assert "the lock is older than its input" in stale, "a key is part of what a lock was made from"
    refused = one_error(tiny.run("lock"), 1)
    assert "/vendor is not signed by the key that is given for it" in refused
