"""What a pulled root holds is read while it is unpacked, and is the same as if it were read from its blobs."""

from __future__ import annotations

import io
import tarfile
from functools import partial
from pathlib import Path

import pytest

from buildkit.build.native_check import read_facts
from buildkit.build.root_contents import RootContents
from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError, MismatchError
from buildkit.layers.root.paths import RootPaths
from buildkit.layers.tar.contents import Listing
from buildkit.layers.tar.listing import read_listing
from buildkit.native.facts import encode_facts
from buildkit.store.blobs import Blobs
from buildkit.store.ingest import ingest_blob
from buildkit.store.ledger import Ledger
from tests.native.elfmaker import make_elf

FOLDER, LINK, HARD, PIPE = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE


def make_tar(*members: tuple[str, bytes, bytes | str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, kind, content in members:
            member = tarfile.TarInfo(path)
            member.type = kind
            if isinstance(content, str):
                member.linkname = content
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


FILE = tarfile.REGTYPE
LOWER = make_tar(
    ("usr", FOLDER, b""), ("usr/lib", FOLDER, b""), ("srv", FOLDER, b""),
    ("usr/lib/libx.so.1", FILE, make_elf(soname="libx.so.1", needed=("libc.so.6",)) + bytes(3_000_000)),
    ("usr/lib/libx.so", LINK, "libx.so.1"), ("usr/lib/libz.so", HARD, "usr/lib/libx.so.1"),
    ("etc/ld.so.conf", FILE, b"/opt/lib\n"), ("usr/bin/tool", FILE, b"#!/bin/sh\n" + b"x" * 100), ("run/p", PIPE, b""),
)  # fmt: skip
UPPER = make_tar(("srv/.wh.gone", FILE, b""), ("usr/lib/.wh.libz.so", FILE, b""), ("etc/new", FILE, b"1"))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def pull(folder: Path, contents: RootContents, *tars: bytes, ids: tuple[bytes, ...] = ()) -> None:
    blobs = Blobs(folder / "cache")
    for tar, named in zip(tars, ids or tars, strict=True):
        digest, path = Digest.of(tar), folder / Digest.of(tar).hex
        path.write_bytes(tar)
        ingest_blob(path, digest, DiffId.of(named), blobs, read=partial(contents.read, digest))


def read_again(*tars: bytes) -> Listing:
    return RootPaths(read_listing((tar,), "it", of_root=True) for tar in tars).listing()


@pytest.mark.parametrize("tars", [(LOWER,), (LOWER, UPPER)])
def test_contents_are_those_that_the_blobs_have(tmp_path: Path, ledger: Ledger, tars: tuple[bytes, ...]) -> None:
    contents = RootContents()
    pull(tmp_path, contents, *tars)
    assert contents.keep(ledger, [*map(Digest.of, tars)]) == read_again(*tars)
    known = ledger.natives.find(map(Digest.of, tars))
    assert known == {Digest.of(tar): encode_facts(read_facts((tar,), "it")) for tar in tars}


def test_layer_with_other_bytes_than_the_image_says_leaves_no_facts(tmp_path: Path, ledger: Ledger) -> None:
    contents = RootContents()
    with pytest.raises(MismatchError, match="other bytes"):
        pull(tmp_path, contents, LOWER, ids=(UPPER,))
    assert ledger.natives.find([Digest.of(LOWER)]) == {}


def test_what_was_read_of_a_layer_before_does_not_count(tmp_path: Path, ledger: Ledger) -> None:
    contents = RootContents()
    contents.read(Digest.of(LOWER), iter((UPPER,)))
    contents.read(Digest.of(UPPER), iter((b"?" * 512,)))
    pull(tmp_path, contents, LOWER, UPPER)
    assert contents.keep(ledger, [*map(Digest.of, (LOWER, UPPER))]) == read_again(LOWER, UPPER)
    assert ledger.natives.find([Digest.of(LOWER)]) == {Digest.of(LOWER): encode_facts(read_facts((LOWER,), "it"))}


def test_unreadable_layer_is_kept_and_its_listing_is_not_known(tmp_path: Path, ledger: Ledger) -> None:
    contents, broken = RootContents(), LOWER[:700] + b"?" * 512 + LOWER[1212:]
    with pytest.raises(BuildError):
        read_listing((broken,), "it")
    pull(tmp_path, contents, broken, UPPER)
    assert Blobs(tmp_path / "cache").has(Digest.of(broken), len(broken))
    assert contents.keep(ledger, [*map(Digest.of, (broken, UPPER))]) is None
    assert ledger.natives.find(map(Digest.of, (broken, UPPER))).keys() == {Digest.of(UPPER)}
