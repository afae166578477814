"""Archives that a root names, with real ones on loopback: each is trusted through its own key alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from buildkit.declare.apt_archives import AptSource, Archives, PublicKey, parse_public_key
from buildkit.declare.apt_sources import render_sources
from buildkit.errors import BuildError, FetchError, MismatchError
from buildkit.locks.pins import AptPin
from buildkit.tools.apt import AptResolveRequest, resolve_apt
from buildkit.tools.mmdebstrap import RootSpec, Workplace, stream_root
from tests.aptrepository import SigningKey, make_keys, make_package, serve_archives, write_archive

pytestmark = pytest.mark.tools
_SUITES = ("trixie", "trixie-updates", "trixie-security")
_DAY = "20261120T000000Z"


class Served(NamedTuple):
    """Archives on loopback below ``url``, and the keys that sign them."""

    url: str
    debian: SigningKey
    vendor: SigningKey


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("archives")
    with make_keys(folder, "debian", "vendor") as (debian, vendor):
        old, new, tool = (
            make_package(folder, name, version, {f"usr/share/{name}": version})
            for name, version in (("hello", "1.0"), ("hello", "2.0"), ("tool", "1"))
        )
        www = folder / "www"
        for name in ("debian", "debian-security"):
            write_archive(www / f"snapshots/{name}/{_DAY}", [old], debian, suites=_SUITES, days_valid=-30)
        write_archive(www / "flat", [tool], vendor)
        write_archive(www / "strangers", [tool], debian)
        write_archive(www / "expired", [tool], vendor, days_valid=-2)
        write_archive(www / "suites", [new], vendor, suites=("stable",))
        with serve_archives(www) as url:
            yield Served(url, debian, vendor)


@pytest.fixture(autouse=True)
def _proxy(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", served.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def sources(served: Served, place: str, *, suite: str = "/", components: tuple[str, ...] = ()) -> str:
    vendor = AptSource(
        uri=f"{served.url}/{place}",
        suite=suite,
        components=components,
        key=parse_public_key("vendor.asc", served.vendor.public),
    )
    own = parse_public_key("debian.asc", served.debian.public)
    return render_sources("trixie", ("main",), Archives(snapshot=_DAY, key=own, sources=(vendor,)), "amd64")


def resolve(text: str, *packages: str) -> tuple[AptPin, ...]:
    return resolve_apt(
        AptResolveRequest(packages=packages, suite="trixie", variant="extract", arch="amd64", sources=text)
    )


def test_snapshot_and_further_archives_are_locked_together(served: Served) -> None:
    found = resolve(sources(served, "flat"), "hello", "tool")
    assert found == (AptPin(name="hello", version="1.0"), AptPin(name="tool", version="1"))


def test_archive_with_suites_gives_its_newer_version(served: Served) -> None:
    found = resolve(sources(served, "suites", suite="stable", components=("main",)), "hello")
    assert found == (AptPin(name="hello", version="2.0"),)


@pytest.mark.parametrize(
    ("place", "kind", "message"),
    [
        ("strangers", MismatchError, "{url}/strangers is not signed by the key that is given for it"),
        ("expired", FetchError, "what {url}/expired publishes has expired"),
        ("nowhere", FetchError, "there is no archive at {url}/nowhere"),
    ],
)
def test_archive_that_fails_is_named_when_locking_and_when_building(
    served: Served, tmp_path: Path, place: str, kind: type[BuildError], message: str
) -> None:
    text = sources(served, place)
    with pytest.raises(kind) as locking:
        resolve(text, "hello", "tool")
    pins = (AptPin(name="hello", version="1.0"), AptPin(name="tool", version="1"))
    spec = RootSpec(suite="trixie", arch="amd64", variant="extract", pins=pins, sources=text, bytecode=False)
    with pytest.raises(kind) as building:
        list(stream_root(spec, Workplace(folder=tmp_path)))
    for caught in (locking, building):
        assert caught.value.message.startswith(message.format(url=served.url))
        assert caught.value.hint


def test_root_names_its_archives_and_no_path_of_the_host(served: Served, tmp_path: Path) -> None:
    text = sources(served, "flat")
    spec = RootSpec(
        suite="trixie",
        arch="amd64",
        variant="extract",
        pins=(AptPin(name="hello", version="1.0"), AptPin(name="tool", version="1")),
        sources=text,
        bytecode=False,
    )
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first, second = (b"".join(stream_root(spec, Workplace(folder=tmp_path / name))) for name in ("first", "second"))
    assert first == second
    assert text.encode() in first
    assert str(tmp_path).encode() not in first


def test_private_key_is_refused(served: Served) -> None:
    with pytest.raises(ValueError, match="private key, which must not be in a repository"):
        parse_public_key("key.asc", served.vendor.private)
    assert parse_public_key("key.asc", served.vendor.public) == PublicKey(file="key.asc", text=served.vendor.public)
