"""A wheel whose hash is not in the lock gets into no image, whichever cache or folder offers it under its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.tinyproject import Tiny
from tests.layers.wheelmaker import make_wheel

pytestmark = pytest.mark.tools

FILE = "alpha-1.0-py3-none-any.whl"
MARK = b"EVIL = 'not what was locked'\n"


@pytest.fixture
def evil(tmp_path: Path) -> bytes:
    """A wheel as good as the locked one, and another."""
    metadata = "Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n\n"
    path = make_wheel(tmp_path, {"alpha/__init__.py": MARK}, name="alpha", version="1.0", METADATA=metadata)
    return path.read_bytes()


def locked(tiny: Tiny) -> str:
    text = (tiny.project / "requirements/app.wheels.toml").read_text()
    found = re.search(rf'file = "{FILE}"\nsha256 = "(\w+)"', text)
    assert found is not None
    return found[1]


def plant(tiny: Tiny, data: bytes, sha256: str) -> Path:
    """Put a file into the cache of downloads, as if it had been fetched."""
    path = tiny.cache / "files" / sha256 / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def modules(tiny: Tiny) -> str:
    return tiny.run_image("app", "cat", "/opt/venv/lib/python3.13/site-packages/alpha/__init__.py")


def test_wrong_wheel_in_the_download_cache_is_deleted(tiny: Tiny, evil: bytes) -> None:
    path = plant(tiny, evil, locked(tiny))
    ended = tiny.build("app")
    assert f"alpha 1.0: the cached {FILE} was damaged, and is removed" in ended.text
    assert modules(tiny) == 'VERSION = "1.0"\n'
    assert path.read_bytes() != evil


def test_wrong_wheel_without_an_alternative_fails_the_build(tiny: Tiny, evil: bytes) -> None:
    plant(tiny, evil, locked(tiny))
    (tiny.folder / "links" / FILE).write_bytes(evil)
    message = tiny.refuse("app", code=1)
    assert re.search(rf"alpha==1.0 \({FILE}\): .*the lock names", message)
    assert not [name for name in tiny.images() if name.endswith("app:latest")]
    assert not [path for path in tiny.cache.glob("sha256/*") if MARK in path.read_bytes()]
    assert not list(tiny.cache.glob(f"files/*/{FILE}"))


def test_wrong_wheel_in_a_folder_does_not_hide_the_right_one(tiny: Tiny, evil: bytes, tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / FILE).write_bytes(evil)
    links = f"{tmp_path / 'wrong'} {tiny.folder / 'links'}"
    tiny.build("app", PIP_FIND_LINKS=links)
    assert modules(tiny) == 'VERSION = "1.0"\n'


def test_wheels_lock_alone_cannot_admit_a_wrong_wheel(tiny: Tiny, evil: bytes) -> None:
    from buildkit.digest import FileHash

    other = FileHash.of(evil).hex
    plant(tiny, evil, other)
    (tiny.folder / "links" / FILE).write_bytes(evil)
    tiny.replace("requirements/app.wheels.toml", locked(tiny), other)
    message = tiny.refuse("app", code=2)
    assert f"alpha 1.0 has sha256:{other}, which requirements/app.txt does not allow" in message
    assert tiny.blobs() == []


def test_wrong_wheel_with_a_forged_index_hash_is_refused(tiny: Tiny, evil: bytes) -> None:
    """The index states a hash that is not that of the file."""
    page = tiny.folder / "links/index.html"
    (tiny.folder / "links" / FILE).write_bytes(evil)
    page.write_text(f'<a href="{FILE}#sha256={locked(tiny)}">{FILE}</a>')
    message = tiny.refuse("app", code=1, PIP_FIND_LINKS=page.as_uri())
    assert re.search(rf"alpha==1.0 \({FILE}\): .*the lock names", message)
    assert tiny.cache.joinpath("files", locked(tiny), FILE).exists() is False
