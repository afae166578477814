"""tar, 7z and compressed streams; NeMo's archives and PyTorch's oldest format."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib

import pytest
import zstandard

from buildkit.declare.model_allowlist import ModelAllowlist
from buildkit.digest import FileHash
from buildkit.findings import Severity
from buildkit.scan import BytesSource, ScanLimits, Verdict, judge
from buildkit.scan.archives import lz4
from tests.scan.pickler import data, evil, look, rules, said, text, whole

GOOD = whole(text("x" * 200))


def tar(members: dict[str, bytes], form: int = tarfile.PAX_FORMAT, **links: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as out:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            out.addfile(info)
    return file.getvalue()


def lz4_frame(content: bytes, *, flags: int = 0x60) -> bytes:
    """A frame with the content in one block, as literals."""
    count = len(content)
    token = bytes((min(count, 15) << 4,))
    rest = b"" if count < 15 else b"\xff" * ((count - 15) // 255) + bytes(((count - 15) % 255,))
    data = token + rest + content
    return lz4.MAGIC + bytes((flags, 0x40, 0)) + struct.pack("<I", len(data)) + data + bytes(4)


STREAMS = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zlib, stored": lambda content: zlib.compress(content, 0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "zstd": zstandard.compress,
    "lz4": lz4_frame,
    "old joblib": lambda content: b"ZF" + hex(len(content)).encode().ljust(19) + zlib.compress(content),
}


@pytest.mark.parametrize("name", STREAMS)
def test_compressed_pickles_are_scanned(name):
    pack = STREAMS[name]
    assert look(pack(GOOD)).verdict is Verdict.CLEAN, said(look(pack(GOOD)))
    found = look(pack(evil()))
    assert rules(found) == {"pickle-runs-code"}
    assert "pickle" in found.formats
    assert "pickle-runs-code" in rules(look(pack(pack(evil()))))


@pytest.mark.parametrize("name", STREAMS)
def test_what_lies_behind_a_compressed_stream_is_not_overlooked(name):
    found = look(STREAMS[name](GOOD) + evil())
    assert found.verdict is not Verdict.CLEAN
    assert "pickle-runs-code" in rules(found) or name == "zstd"


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd"])
def test_streams_behind_each_other_are_one(name):
    content = whole(text("x" * 200) + b"0cos\nsystem\n" + text("id") + b"\x85R")
    found = look(STREAMS[name](content[:100]) + STREAMS[name](content[100:]))
    assert rules(found) == {"pickle-runs-code"}


@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_stream_is_a_gap_and_its_beginning_scanned(name):
    noise = bytes((i * i * 31 >> 3) & 0xFF for i in range(300_000))
    content = whole(b"cos\nsystem\n" + text("id") + b"\x85R0B" + struct.pack("<I", len(noise)) + noise)
    found = look(STREAMS[name](content)[:-9])
    assert found.gaps
    assert "pickle-runs-code" in rules(found) or name in ("lz4", "bzip2"), said(found)


def test_lz4_repeats_what_it_had():
    literals = b"\x40abcd" + b"\x04\x00"  # four literals, then four or more bytes from four back
    data = literals + b"\x10x"
    frame = lz4.MAGIC + b"\x60\x40\x00" + struct.pack("<I", len(data)) + data + bytes(4)
    assert b"".join(lz4.Lz4Frame(BytesSource(frame), 0).chunks()) == b"abcdabcdx"
    overlapping = b"\x1fa\x01\x00\xff\x05" + b"\x00"
    assert lz4.decode_block(overlapping, b"", 65536) == b"a" * (1 + 4 + 15 + 255 + 5)


@pytest.mark.parametrize("data", [b"", b"\xf0", b"\x1fa\x05\x00\x00\x00", b"\x10a\x00\x00", b"\x10a\x01", b"\x50a"])
def test_lz4_that_is_malformed(data):
    with pytest.raises(lz4.Lz4Error):
        lz4.decode_block(data, b"", 65536)


def test_lz4_never_gives_more_than_a_block():
    with pytest.raises(lz4.Lz4Error):
        lz4.decode_block(b"\x1fa\x01\x00" + b"\xff" * 1000 + b"\x00\x00", b"", 65536)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_tars_are_scanned(form):
    name = "a/" * 60 + "model_weights.ckpt"
    found = look(tar({"config.txt": b"hello\n", name: evil()}, form))
    assert [one.member for one in found.findings] == [name]
    assert found.formats[0] == "tar"
    assert look(tar({"a.pkl": GOOD}, form)).verdict is Verdict.CLEAN


def test_a_tar_in_gzip_in_a_tar():
    found = look(tar({"inner.tgz": gzip.compress(tar({"a.pkl": evil()}))}))
    assert found.findings[0].member == "inner.tgz!gzip!a.pkl"


def test_nemos_configuration_must_not_call_others():
    def nemo(target: str) -> bytes:
        return tar({"./model_config.yaml": f"a:\n  _target_: {target}\n".encode(), "./model_weights.ckpt": GOOD})

    assert look(nemo("nemo.collections.asr.models.Model")).verdict is Verdict.CLEAN
    found = look(nemo("subprocess.run"))
    assert (rules(found), found.findings[0].severity) == ({"hydra-target"}, Severity.CRITICAL)
    assert rules(look(nemo("mine.Thing"))) == {"hydra-target"}


def test_pytorchs_oldest_format_is_a_finding():
    assert "torch-tar" in rules(look(tar({"storages": GOOD, "tensors": GOOD, "pickle": GOOD})))


def test_tars_tricks():
    assert rules(look(tar({"../x": GOOD}))) == {"archive-path-escapes"}
    assert rules(look(tar({"a": GOOD, "./a": GOOD}))) == {"archive-duplicate-member"}
    assert rules(look(tar({}, link="/etc/passwd"))) == {"archive-path-escapes"}
    assert rules(look(tar({}, link="../x"))) == {"archive-path-escapes"}
    assert rules(look(tar({}, link="x"))) == {"archive-special-member"}
    two = tar({"a.pkl": GOOD}) + tar({"b.pkl": evil()})
    assert "pickle-runs-code" in rules(look(two))
    assert look(tar({"a.pkl": GOOD})[:600]).verdict is Verdict.PARTIAL


def test_a_tars_size_may_be_a_lie():
    content = bytearray(tar({"a.pkl": evil()}))
    content[124:136] = b"77777777777\0"
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    found = look(bytes(content))
    assert "pickle-runs-code" in rules(found)
    assert found.gaps


SEVEN_ZIP_MAGIC = b"7z\xbc\xaf\x27\x1c"


def seven_zip(content: bytes) -> bytes:
    """A 7z archive of one stored member ``data.pkl``."""

    def number(value: int) -> bytes:
        return b"\xf0" + struct.pack("<I", value)

    streams = b"\x06\x00\x01\x09" + number(len(content)) + b"\x00"
    streams += b"\x07\x0b\x01\x00\x01\x01\x00\x0c" + number(len(content)) + b"\x00\x08\x00\x00"
    names = b"\x00" + "data.pkl\0".encode("utf-16-le")
    header = b"\x01\x04" + streams + b"\x05\x01\x11" + number(len(names)) + names + b"\x00\x00"
    start = struct.pack("<QQI", len(content), len(header), zlib.crc32(header))
    return SEVEN_ZIP_MAGIC + b"\x00\x04" + struct.pack("<I", zlib.crc32(start)) + start + content + header


SEVEN_ZIPS = {
    "harmless": seven_zip(GOOD),
    "malicious": seven_zip(evil()),
    "magic alone": SEVEN_ZIP_MAGIC,
    "cut off": seven_zip(evil())[:-5],
    "with trailing pickle": seven_zip(GOOD) + evil(),
    "in tar": tar({"data.7z": seven_zip(evil())}),
    "in gzip": gzip.compress(seven_zip(evil())),
    "in a pickle's bytes": whole(data(seven_zip(evil()))),
}


@pytest.mark.parametrize("name", SEVEN_ZIPS)
def test_7z_archive_is_not_fully_scanned_and_refused(name):
    found = look(SEVEN_ZIPS[name])
    assert found.verdict is Verdict.PARTIAL, said(found)
    assert "7z" in found.formats
    assert "7z archive" in said(found)
    judgement = judge(found, "model.bin", FileHash("0" * 64), ModelAllowlist())
    assert judgement.is_refused("refuse")
    assert judgement.is_refused("refuse-known")


def test_7z_archive_does_not_hide_what_lies_beside_it():
    found = look(tar({"data.7z": seven_zip(GOOD), "data.pkl": evil()}))
    assert found.verdict is Verdict.FINDINGS
    assert rules(found) == {"pickle-runs-code"}
    assert found.gaps


def test_zip_archive_behind_7z_magic_is_scanned():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("data.pkl", evil())
    found = look(SEVEN_ZIP_MAGIC + file.getvalue())
    assert "pickle-runs-code" in rules(found)
    assert found.gaps


BOMBS = {
    "gzip": gzip.compress(bytes(20_000_000)),
    "bzip2": bz2.compress(bytes(20_000_000)),
    "xz": lzma.compress(bytes(20_000_000)),
    "zstd": zstandard.compress(bytes(20_000_000)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_meet_a_limit(name):
    found = look(BOMBS[name], limits=ScanLimits(inflated=5_000_000))
    assert found.verdict is Verdict.PARTIAL
    assert "5000000 bytes" in said(found)


def test_bombs_are_told_by_their_ratio(monkeypatch):
    monkeypatch.setattr("buildkit.scan.archives.spill.FREE", 2**20)
    assert "1100 times" in said(look(BOMBS["bzip2"]))


def test_archives_nested_too_deep_are_a_gap():
    content = evil()
    for _ in range(12):
        content = gzip.compress(content)
    assert "deeper than 8" in said(look(content))


def test_too_many_members_are_a_gap():
    found = look(tar({f"{i}.txt": b"x\n" for i in range(30)}), limits=ScanLimits(members=20))
    assert "more than 20 members" in said(found)
