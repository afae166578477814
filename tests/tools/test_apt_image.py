"""What apt would add to an image, by the host's apt and real archives on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from buildkit.declare.apt_archives import AptSource, Archives, PublicKey
from buildkit.declare.apt_sources import render_image_sources
from buildkit.errors import DefinitionError, FetchError, MismatchError
from buildkit.locks.pins import AptPin
from buildkit.tools.apt import AptResolveRequest
from buildkit.tools.apt_image import is_apt_file, resolve_on_image
from tests.aptrepository import SigningKey, make_keys, make_package, serve_archives, write_archive

pytestmark = pytest.mark.tools
_STATUS = b"""Package: present
Status: install ok installed
Architecture: all
Version: 1.0
Description: x

Package: old
Status: install ok installed
Architecture: all
Version: 1.0
Description: x
"""


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[tuple[SigningKey, ...]]:
    with make_keys(tmp_path, "own", "vendor") as keys:
        yield keys


@pytest.fixture
def url(tmp_path: Path, keys: tuple[SigningKey, ...], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The archive that the image names, and a vendor's."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    own = [make_package(tmp_path, name, version, {f"usr/share/{name}": name})
           for name, version in (("present", "1.0"), ("old", "2.0"), ("fresh", "3.0"))]  # fmt: skip
    write_archive(tmp_path / "www/own", own, keys[0], suites=("trixie",))
    write_archive(tmp_path / "www/vendor", [make_package(tmp_path, "tool", "4.0", {"usr/share/tool": ""})], keys[1])
    with serve_archives(tmp_path / "www") as url:
        yield url


def image(url: str, key: str) -> Mapping[str, bytes]:
    own = f"deb [signed-by=/usr/share/keyrings/own.asc] {url}/own trixie main\n"
    files = {
        "etc/apt/sources.list.d/own.list": own,
        "usr/share/keyrings/own.asc": key,
        "etc/apt/apt.conf.d/evil": 'APT::Update::Pre-Invoke {"touch /tmp/buildkit-test-ran";};\n',
        "etc/passwd": "x",
    }
    wanted = {path: text.encode() for path, text in files.items() if is_apt_file(path)}
    return {**wanted, "var/lib/dpkg/status": _STATUS}


def asked(*packages: str, **more: object) -> AptResolveRequest:
    return AptResolveRequest(packages=packages, suite="x:1", variant="", arch="amd64", file="x.apt", **more)  # type: ignore[arg-type]


def pins(found: tuple[AptPin, ...]) -> dict[str, str]:
    return {pin.name: pin.version for pin in found}


def test_lock_has_what_is_added_or_upgraded_and_no_more(url: str, keys: tuple[SigningKey, ...]) -> None:
    inside = image(url, keys[0].public)
    assert "etc/apt/apt.conf.d/evil" not in inside
    assert pins(resolve_on_image(asked("fresh", "present"), inside)) == {"fresh": "3.0"}
    assert pins(resolve_on_image(asked("fresh", "old"), inside)) == {"fresh": "3.0", "old": "2.0"}
    vendor = AptSource(uri=f"{url}/vendor", suite="/", key=PublicKey(file="v.asc", text=keys[1].public))
    sources = render_image_sources("debian", "trixie", Archives(sources=(vendor,)), "amd64")
    assert pins(resolve_on_image(asked("fresh", "tool", sources=sources), inside)) == {"fresh": "3.0", "tool": "4.0"}


def test_package_or_archive_that_is_wrong_is_named(url: str, keys: tuple[SigningKey, ...]) -> None:
    inside = image(url, keys[0].public)
    with pytest.raises(DefinitionError, match=r"x\.apt: `missing`: x:1 has no such package"):
        resolve_on_image(asked("missing"), inside)
    with pytest.raises(MismatchError, match="own is not signed by the key"):
        resolve_on_image(asked("fresh"), image(url, keys[1].public))
    with pytest.raises(FetchError, match="could not be reached"):
        resolve_on_image(asked("fresh"), image("http://127.0.0.1:9", keys[0].public))
    local = {**inside, "etc/apt/sources.list.d/own.list": b"deb [trusted=yes] file:/etc x main\n"}
    with pytest.raises(FetchError, match="file:/etc could not be reached") as caught:
        resolve_on_image(asked("fresh"), local)
    assert "method driver" in caught.value.output, "apt reads nothing of this host for an image"
