"""`snapshot`, `key` and `[[root.source]]` of a root."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.declare.apt_archives import USUAL, AptSource, Archives, PublicKey, parse_public_key
from buildkit.declare.apt_sources import render_sources
from buildkit.declare.graph import load_graph
from buildkit.declare.stage_file import parse_stage
from buildkit.errors import DefinitionError

_ROOT = 'summary = "x"\n[root]\nsuite = "trixie"\npackages = "base.apt"\n'
_ARMORED = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDM=\n-----END PGP PUBLIC KEY BLOCK-----\n"
_KEY = PublicKey(file="vendor.asc", text=_ARMORED)
_SOURCE = '[[root.source]]\nuri = "https://vendor.example/apt/"\nsuite = "/"\nkey = "vendor.asc"\n'


def archives(text: str) -> Archives:
    debian = parse_stage(_ROOT + text, name="base", file="stages/base/stage.toml").debian
    assert debian is not None
    return debian.archives


def problems(text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        archives(text)
    return [f"{problem.key}: {problem.what}" for problem in caught.value.problems]


def test_root_without_settings_has_the_usual_archives() -> None:
    assert archives("") == USUAL
    assert render_sources("trixie", ("main",), USUAL, "amd64") == ""


def test_settings_become_values() -> None:
    found = archives(f'snapshot = "2026-11-20T01:02:03Z"\nkey = "own.asc"\n{_SOURCE}')
    vendor = AptSource(uri="https://vendor.example/apt", suite="/", key=PublicKey(file="vendor.asc"))
    assert found == Archives(snapshot="20261120T010203Z", key=PublicKey(file="own.asc"), sources=(vendor,))
    assert found.keys == ("own.asc", "vendor.asc")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('snapshot = "yesterday"\n', "root.snapshot: `yesterday` is not a time in UTC such as 2026-11-20T00:00:00Z"),
        ('snapshot = "2026-02-31T00:00:00Z"\n', "root.snapshot: `2026-02-31T00:00:00Z` is not a time"),
        ('key = "own.gpg"\n', "root.key: `own.gpg` is not a path in the repository that ends in .asc"),
        ('key = "../own.asc"\n', "root.key: `../own.asc` is not a path in the repository that ends in .asc"),
        (f"{_SOURCE}trusted = true\n", "root.source[0].trusted: is an unknown key"),
        (_SOURCE.replace('key = "vendor.asc"\n', ""), "root.source[0].key: is missing"),
        (_SOURCE.replace('"/"', '"noble"'), "root.source[0].components: is missing"),
        (
            f'{_SOURCE}components = ["main"]\n',
            "root.source[0].components: has no effect: a suite that ends in `/` has none",
        ),
        (
            _SOURCE.replace("https://vendor.example/apt/", "https://vendor.example/a b"),
            "root.source[0].uri: `https://vendor.example/a b` is not an http or https URI",
        ),
        (
            _SOURCE.replace("https://vendor.example/apt/", "file:///srv/apt"),
            "root.source[0].uri: `file:///srv/apt` is not an http or https URI",
        ),
    ],
)
def test_wrong_settings_are_named(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_snapshot_names_the_moment_of_every_archive_of_debian() -> None:
    text = render_sources("trixie", ("main", "non-free"), Archives(snapshot="20261120T000000Z"), "amd64")
    assert text == (
        "Types: deb\nURIs: http://snapshot.debian.org/archive/debian/20261120T000000Z\nSuites: trixie trixie-updates\n"
        "Components: main non-free\nCheck-Valid-Until: no\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        "\n"
        "Types: deb\nURIs: http://snapshot.debian.org/archive/debian-security/20261120T000000Z\n"
        "Suites: trixie-security\nComponents: main non-free\nCheck-Valid-Until: no\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_rolling_suite_has_no_updates() -> None:
    text = render_sources("sid", ("main",), Archives(snapshot="20261120T000000Z"), "amd64")
    assert "Suites: sid\n" in text
    assert "security" not in text


@pytest.mark.parametrize(
    ("arch", "snapshot", "uri"),
    [
        ("amd64", "", "http://archive.ubuntu.com/ubuntu"),
        ("arm64", "", "http://ports.ubuntu.com/ubuntu-ports"),
        ("arm64", "20261120T000000Z", "https://snapshot.ubuntu.com/ubuntu/20261120T000000Z"),
    ],
)
def test_suite_of_ubuntu_has_the_archive_of_ubuntu(arch: str, snapshot: str, uri: str) -> None:
    text = render_sources("noble", ("main",), Archives(snapshot=snapshot, key=_KEY), arch)
    assert f"URIs: {uri}\nSuites: noble noble-updates noble-security\n" in text


def test_sources_follow_with_their_keys_as_text() -> None:
    vendor = AptSource(uri="https://vendor.example/apt", suite="stable", components=("main", "extra"), key=_KEY)
    text = render_sources("trixie", ("main",), Archives(sources=(vendor,)), "amd64")
    assert text.startswith("Types: deb\nURIs: http://deb.debian.org/debian\n")
    assert "Check-Valid-Until" not in text
    assert text.endswith(
        "\n\nTypes: deb\nURIs: https://vendor.example/apt\nSuites: stable\nComponents: main extra\nSigned-By:\n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDM=\n -----END PGP PUBLIC KEY BLOCK-----\n"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (_ARMORED.replace("PUBLIC", "PRIVATE"), "holds a private key, which must not be in a repository"),
        ("mDMEaSs=", "is not an armored public key"),
        ("", "is not an armored public key"),
        (_ARMORED + "Suites: /\n", "is not an armored public key"),
        (_ARMORED.replace("mDM=", "mDM=\x00"), "is not an armored public key"),
    ],
)
def test_file_that_is_no_public_key_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_public_key("vendor.asc", text)


def test_key_is_read_with_the_graph(tmp_path: Path) -> None:
    stage = tmp_path / "stages/base/stage.toml"
    stage.parent.mkdir(parents=True)
    stage.write_text(_ROOT + _SOURCE)
    with pytest.raises(DefinitionError, match=r"vendor\.asc cannot be read: No such file"):
        load_graph(tmp_path)
    (tmp_path / "vendor.asc").write_text(f"\n{_ARMORED}\n")
    graph = load_graph(tmp_path)
    debian = graph.get("base").debian
    assert debian is not None
    assert debian.archives.sources[0].key == _KEY
    assert graph.read_files == ("vendor.asc",)
