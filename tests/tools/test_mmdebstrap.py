"""mmdebstrap: its command line, its errors, and (contract) a small root from the real tool."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

import pytest

from buildkit.errors import BuildError, FetchError, MismatchError, ToolError, VersionsGoneError
from buildkit.layers.root.pack import RootRules, pack_root
from buildkit.layers.tar.member import Compression, PackedLayer
from buildkit.locks.pins import AptPin
from buildkit.tools import mmdebstrap
from buildkit.tools.apt import AptResolveRequest, resolve_apt
from buildkit.tools.mmdebstrap import RootSpec, Workplace, render_argv, stream_root
from buildkit.tools.process import Command

PINS = (AptPin(name="libc6", version="2.41-12"), AptPin(name="base-files", version="13.8"))
SPEC = RootSpec(suite="trixie", arch="amd64", pins=PINS)


def test_packages_are_requested_by_version_in_stable_order() -> None:
    argv = render_argv(SPEC, uid=0)
    assert "--include=base-files=13.8,libc6=2.41-12" in argv
    assert argv == render_argv(RootSpec(suite="trixie", arch="amd64", pins=PINS[::-1]), uid=0)
    assert argv[-3:] == ("--", "trixie", "-")


def test_the_mode_follows_the_user_and_archives_come_last(tmp_path: Path) -> None:
    assert "--mode=root" in render_argv(SPEC, uid=0)
    foreign = " ".join(render_argv(replace(SPEC, arch="arm64", variant="extract", python=Path("/a b/python")), uid=0))
    assert "--extract-hook=python='/a b/python'" in foreign  # the root's own Python does not run here
    assert 'chroot "$1" "$loader"' in foreign
    spec = RootSpec(suite="trixie", arch="arm64", pins=PINS, components=("main", "x"))
    argv = render_argv(spec, uid=1000, sources=(tmp_path,))
    assert {"--mode=unshare", "--architectures=arm64", "--components=main,x"} <= set(argv)
    assert argv[-2:] == ("-", str(tmp_path))


@pytest.mark.parametrize(
    ("variant", "given", "hooks"),
    [
        ("minbase", "custom", ["customize"]),
        ("custom", "custom", ["customize"]),
        ("extract", "extract", ["extract", "extract"]),
    ],
)
def test_every_variant_but_extract_becomes_custom(variant: str, given: str, hooks: list[str]) -> None:
    argv = render_argv(RootSpec(suite="trixie", arch="amd64", pins=PINS, variant=variant), uid=0)
    assert f"--variant={given}" in argv
    assert [part.split("-")[2] for part in argv if "-hook=" in part] == hooks


@pytest.mark.parametrize(
    ("output", "kind", "message", "hint"),
    [
        (
            "E: Version '1.0' for 'netbase' was not found\nE: Version '9' for 'base-files' was not found\n",
            VersionsGoneError,
            "no longer has netbase=1.0, base-files=9 in trixie",
            "nox -s lock -- --upgrade-apt",
        ),
        ("E: Unable to locate package nope\n", VersionsGoneError, "no longer has nope", "--upgrade"),
        ("Err:1 x InRelease\n  Temporary failure resolving 'x'\n", FetchError, "could not be reached", "network"),
        ("  Could not connect to 127.0.0.1:9 (127.0.0.1).\n", FetchError, "could not be reached", "proxy"),
        (
            "W: NO_PUBKEY 0E98404D386FA1D9\n",
            MismatchError,
            "not signed by a key of this host",
            "debian-archive-keyring",
        ),
        ("E: newuidmap failed\n", ToolError, "exit code 25", "/etc/subuid"),
        ("The following packages have unmet dependencies:\n", ToolError, "exit code 25", "--upgrade"),
        ("E: something else\n", ToolError, "exit code 25", ""),
    ],
)
def test_mmdebstrap_failures_are_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, output: str, kind: type[BuildError], message: str, hint: str
) -> None:
    def failing(command: Command, _watch: object) -> Iterator[bytes]:
        assert command.env is not None
        assert {"SOURCE_DATE_EPOCH": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}.items() <= command.env.items()
        yield b""
        raise ToolError("mmdebstrap failed with exit code 25", output=output)

    monkeypatch.setattr(mmdebstrap, "stream", failing)
    with pytest.raises(kind, match=message) as caught:
        list(stream_root(SPEC, Workplace(folder=tmp_path)))
    assert type(caught.value) is kind
    assert hint in caught.value.hint
    assert caught.value.output == output


@pytest.fixture(scope="module")
def pins() -> tuple[AptPin, ...]:
    """Two small packages and what they need, at the versions of today."""
    return resolve_apt(
        AptResolveRequest(packages=("netbase", "ca-certificates"), suite="trixie", variant="extract", arch="amd64")
    )


def pack(pins: tuple[AptPin, ...], say: Callable[[str], None] = str) -> tuple[PackedLayer, set[str]]:
    out = io.BytesIO()
    spec = RootSpec(suite="trixie", arch="amd64", pins=pins, variant="extract")
    place = Workplace(folder=Path(gettempdir()), say=say)
    packed = pack_root(stream_root(spec, place), RootRules(pins=pins), out, Compression.NONE)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        return packed, set(tar.getnames())


@pytest.mark.tools
@pytest.mark.network
def test_root_has_the_locked_packages_and_is_reproducible(
    pins: tuple[AptPin, ...], monkeypatch: pytest.MonkeyPatch, umask: Callable[[int], None]
) -> None:
    phases: list[str] = []
    first, names = pack(pins, phases.append)
    assert phases[:3] == ["running apt-get update", "downloading packages", "extracting archives"]
    assert phases[-1] == "creating tarball"
    assert {"etc/services", "var/lib/dpkg/status.d/netbase", "etc/ssl/certs/ca-certificates.crt"} <= names
    assert not {name for name in names if name.startswith(("var/lib/apt/lists/", "var/cache/apt/archives/"))}
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setenv("LANG", "tr_TR.UTF-8")
    umask(0o077)
    assert pack(pins[::-1])[0] == first


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    import os

    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


@pytest.mark.tools
@pytest.mark.network
def test_version_missing_from_the_archive_is_named() -> None:
    with pytest.raises(VersionsGoneError, match=r"no longer has netbase=0\.0 in trixie"):
        pack((AptPin(name="netbase", version="0.0"),))


@pytest.mark.tools
def test_unreachable_archive_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match="could not be reached"):
        pack((AptPin(name="netbase", version="6.5"),))
