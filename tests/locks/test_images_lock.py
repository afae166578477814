"""The lock of images: what it says comes back, and what was altered or cut is refused with the way out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from buildkit.declare.image_names import full_name
from buildkit.digest import Digest
from buildkit.errors import DefinitionError
from buildkit.locks.images_lock import (
    IMAGES_LOCK,
    ImageContents,
    LockedImage,
    parse_images_lock,
    pin_image,
    render_images_lock,
)

NAME = "docker.io/library/python:3.12-slim"
A, B, C = (Digest(digit * 64) for digit in "abc")
IMAGE = LockedImage(
    name=NAME,
    digest=A,
    locked="2026-11-29T21:00:00Z",
    platforms={"linux/amd64": B, "linux/arm64/v8": C},
    contents={
        "amd64": ImageContents(
            system="Debian GNU/Linux 13 (trixie)",
            id="debian",
            version="13",
            codename="trixie",
            manager="dpkg",
            packages={"apt": "3.0.3", "libstdc++6": "14.2.0-19"},
            python={"usr/local/lib/python3.12/site-packages": {"pip": "25.0"}},
        )
    },
)
TEXT = render_images_lock({NAME: IMAGE})


def pin(text: str | None, arch: str = "amd64", name: str = NAME) -> object:
    return pin_image(name, {IMAGES_LOCK: text}.get, arch)


def test_lock_says_what_it_was_made_of_and_a_package_has_a_line_of_its_own() -> None:
    assert parse_images_lock(TEXT) == {NAME: IMAGE}
    assert render_images_lock(parse_images_lock(TEXT)) == TEXT
    assert '\n"libstdc++6" = "14.2.0-19"\n' in TEXT


def test_build_gets_the_digest_alone_and_the_images_of_its_processor() -> None:
    pinned = pin_image(NAME, {IMAGES_LOCK: TEXT}.get, "amd64")
    assert pinned.ref == f"{NAME}@{A}"
    assert pinned.pinned == f"docker.io/library/python@{A}", "the key is that of a digest that was written"
    assert pinned.manifests == (B,)


SEAL = next(line for line in TEXT.splitlines() if line.startswith("sha256 = "))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('codename = "trixie"\n', 'codename = "bookworm"\n'),
        ('\nid = "debian"\n', "\n"),
        ('manager = "dpkg"', 'manager = "apk"'),
        ('apt = "3.0.3"\n', ""),
        ('pip = "25.0"', 'pip = "25.1"'),
        (f'\ndigest = "{A}"', f'\ndigest = "{C}"'),
        (f'"linux/amd64" = "{B}"', f'"linux/amd64" = "{A}"'),
        (f'"linux/amd64" = "{B}"\n', ""),
        (f"{SEAL}\n", ""),
        (SEAL, f'sha256 = "{A.hex}"'),
        (SEAL, "sha256 = 1"),
    ],
)
def test_contents_that_were_not_read_of_the_digest_count_for_nothing(old: str, new: str) -> None:
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    image = parse_images_lock(text)[NAME]
    assert (image.altered, image.contents) == (("amd64",), {})
    with pytest.raises(DefinitionError, match=rf"{NAME}: what it holds on amd64 was not read of this digest") as caught:
        pin(text)
    assert caught.value.hint == "run: nox -s lock"


def test_two_branches_merge_where_they_lock_different_images() -> None:
    other = replace(IMAGE, name=f"{NAME}-other", digest=C)
    both = render_images_lock({NAME: IMAGE, other.name: other})
    merged = TEXT + render_images_lock({other.name: other}).partition("\n\n")[2]
    assert parse_images_lock(merged) == parse_images_lock(both) == {NAME: IMAGE, other.name: other}


def test_build_refuses_an_image_of_which_the_lock_does_not_say_what_it_holds() -> None:
    with pytest.raises(DefinitionError, match="the lock does not say what it holds on arm64") as caught:
        pin(TEXT, "arm64")
    assert caught.value.hint == "run: nox -s lock"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"requirements/images\.lock: the lock is missing"),
        (TEXT.replace("3.12-slim", "3.11-slim"), "does not have docker.io/library/python:3.12-slim"),
        (TEXT.replace(str(A), "sha256:short"), r"image docker.*: not a SHA-256"),
        (TEXT.replace(f'digest = "{A}"\n', ""), "`digest` is missing"),
        (TEXT.replace('"3.0.3"', "3"), "is not as `nox -s lock` writes it"),
        (TEXT.replace("[image.platforms]", "[image.plates]"), "`platforms` is missing"),
        (TEXT + TEXT.partition("\n\n")[2], "is listed twice"),
        ('image = "x"', "is not as `nox -s lock` writes it"),
        ("image = [", "is not TOML"),
    ],
)
def test_lock_that_was_altered_is_refused(text: str | None, message: str) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        pin(text)
    assert caught.value.hint == "run: nox -s lock"


def test_image_that_is_not_made_for_the_processor_names_those_that_it_is_for() -> None:
    with pytest.raises(DefinitionError, match=r"not made for linux/riscv64; it is for linux/amd64, linux/arm64/v8"):
        pin(TEXT, "riscv64")


def test_entry_of_a_written_digest_must_have_that_digest() -> None:
    name = f"docker.io/library/python@{B}"
    with pytest.raises(DefinitionError, match="another digest than its name"):
        pin(TEXT.replace(NAME, name), name=name)


def test_names_without_a_registry_are_docker_hubs() -> None:
    assert [full_name(name) for name in ("python:3", "me/x", "ghcr.io/me/x:1", "localhost:5000/x")] == [
        "docker.io/library/python:3",
        "docker.io/me/x",
        "ghcr.io/me/x:1",
        "localhost:5000/x",
    ]
