"""Tar and 7z archives, and compressed streams; NeMo's archives and PyTorch's oldest format."""

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
from tests.scan.pickler import data, describe, malicious_pickle, pickle_stream, rules, scan_bytes, text

GOOD = pickle_stream(text("x" * 200))


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
    """Return a frame with the content in one block, as literals."""
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
def test_pickle_in_compressed_stream_is_scanned(name):
    pack = STREAMS[name]
    assert scan_bytes(pack(GOOD)).verdict is Verdict.CLEAN, describe(scan_bytes(pack(GOOD)))
    found = scan_bytes(pack(malicious_pickle()))
    assert rules(found) == {"pickle-runs-code"}
    assert "pickle" in found.formats
    assert "pickle-runs-code" in rules(scan_bytes(pack(pack(malicious_pickle()))))


@pytest.mark.parametrize("name", STREAMS)
def test_pickle_after_compressed_stream_is_scanned(name):
    found = scan_bytes(STREAMS[name](GOOD) + malicious_pickle())
    assert found.verdict is not Verdict.CLEAN
    assert "pickle-runs-code" in rules(found) or name == "zstd"


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd"])
def test_consecutive_streams_are_scanned_as_one(name):
    content = pickle_stream(text("x" * 200) + b"0cos\nsystem\n" + text("id") + b"\x85R")
    found = scan_bytes(STREAMS[name](content[:100]) + STREAMS[name](content[100:]))
    assert rules(found) == {"pickle-runs-code"}


@pytest.mark.parametrize("name", STREAMS)
def test_truncated_stream_is_a_gap_and_its_beginning_is_scanned(name):
    noise = bytes((i * i * 31 >> 3) & 0xFF for i in range(300_000))
    content = pickle_stream(b"cos\nsystem\n" + text("id") + b"\x85R0B" + struct.pack("<I", len(noise)) + noise)
    found = scan_bytes(STREAMS[name](content)[:-9])
    assert found.gaps
    assert "pickle-runs-code" in rules(found) or name in ("lz4", "bzip2"), describe(found)


def test_lz4_match_copies_earlier_bytes():
    literals = b"\x40abcd" + b"\x04\x00"  # four literals, then four or more bytes from four back
    data = literals + b"\x10x"
    frame = lz4.MAGIC + b"\x60\x40\x00" + struct.pack("<I", len(data)) + data + bytes(4)
    assert b"".join(lz4.Lz4Frame(BytesSource(frame), 0).chunks()) == b"abcdabcdx"
    overlapping = b"\x1fa\x01\x00\xff\x05" + b"\x00"
    assert lz4.decode_block(overlapping, b"", 65536) == b"a" * (1 + 4 + 15 + 255 + 5)


@pytest.mark.parametrize("data", [b"", b"\xf0", b"\x1fa\x05\x00\x00\x00", b"\x10a\x00\x00", b"\x10a\x01", b"\x50a"])
def test_malformed_lz4_block_raises(data):
    with pytest.raises(lz4.Lz4Error):
        lz4.decode_block(data, b"", 65536)


def test_lz4_block_larger_than_declared_raises():
    with pytest.raises(lz4.Lz4Error):
        lz4.decode_block(b"\x1fa\x01\x00" + b"\xff" * 1000 + b"\x00\x00", b"", 65536)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_tar_members_are_scanned(form):
    name = "a/" * 60 + "model_weights.ckpt"
    found = scan_bytes(tar({"config.txt": b"hello\n", name: malicious_pickle()}, form))
    assert [one.member for one in found.findings] == [name]
    assert found.formats[0] == "tar"
    assert scan_bytes(tar({"a.pkl": GOOD}, form)).verdict is Verdict.CLEAN


def test_tar_in_gzip_in_tar_is_scanned():
    found = scan_bytes(tar({"inner.tgz": gzip.compress(tar({"a.pkl": malicious_pickle()}))}))
    assert found.findings[0].member == "inner.tgz!gzip!a.pkl"


def test_nemo_configuration_may_only_call_known_targets():
    def nemo(target: str) -> bytes:
        return tar({"./model_config.yaml": f"a:\n  _target_: {target}\n".encode(), "./model_weights.ckpt": GOOD})

    assert scan_bytes(nemo("nemo.collections.asr.models.Model")).verdict is Verdict.CLEAN
    found = scan_bytes(nemo("subprocess.run"))
    assert (rules(found), found.findings[0].severity) == ({"hydra-target"}, Severity.CRITICAL)
    assert rules(scan_bytes(nemo("mine.Thing"))) == {"hydra-target"}


def test_pytorch_tar_format_is_a_finding():
    assert "torch-tar" in rules(scan_bytes(tar({"storages": GOOD, "tensors": GOOD, "pickle": GOOD})))


def test_hostile_tar_members_are_found():
    assert rules(scan_bytes(tar({"../x": GOOD}))) == {"archive-path-escapes"}
    assert rules(scan_bytes(tar({"a": GOOD, "./a": GOOD}))) == {"archive-duplicate-member"}
    assert rules(scan_bytes(tar({}, link="/etc/passwd"))) == {"archive-path-escapes"}
    assert rules(scan_bytes(tar({}, link="../x"))) == {"archive-path-escapes"}
    assert rules(scan_bytes(tar({}, link="x"))) == {"archive-special-member"}
    two = tar({"a.pkl": GOOD}) + tar({"b.pkl": malicious_pickle()})
    assert "pickle-runs-code" in rules(scan_bytes(two))
    assert scan_bytes(tar({"a.pkl": GOOD})[:600]).verdict is Verdict.PARTIAL


@pytest.mark.parametrize("size", [b"-0000001000\0", b"0000000_100\0"])
def test_tar_member_with_a_malformed_size_is_a_gap(size):
    content = bytearray(tar({"a.pkl": GOOD}))
    content[124:136] = size
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    assert scan_bytes(bytes(content)).verdict is Verdict.PARTIAL


def test_tar_member_with_false_size_is_scanned_and_a_gap():
    content = bytearray(tar({"a.pkl": malicious_pickle()}))
    content[124:136] = b"77777777777\0"
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    found = scan_bytes(bytes(content))
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
    "malicious": seven_zip(malicious_pickle()),
    "magic alone": SEVEN_ZIP_MAGIC,
    "cut off": seven_zip(malicious_pickle())[:-5],
    "with trailing pickle": seven_zip(GOOD) + malicious_pickle(),
    "in tar": tar({"data.7z": seven_zip(malicious_pickle())}),
    "in gzip": gzip.compress(seven_zip(malicious_pickle())),
    "in a pickle's bytes": pickle_stream(data(seven_zip(malicious_pickle()))),
}


@pytest.mark.parametrize("name", SEVEN_ZIPS)
def test_7z_archive_is_refused_under_any_setting(name):
    found = scan_bytes(SEVEN_ZIPS[name])
    assert "7z" in found.formats
    assert rules(found) == {"unread-archive"}
    judgement = judge(found, "model.bin", FileHash("0" * 64), ModelAllowlist())
    assert all(judgement.is_refused(policy) for policy in ("refuse", "refuse-known", "warn"))


def test_7z_archive_does_not_hide_adjacent_files():
    found = scan_bytes(tar({"data.7z": seven_zip(GOOD), "data.pkl": malicious_pickle()}))
    assert rules(found) == {"pickle-runs-code", "unread-archive"}


def test_zip_archive_behind_7z_magic_is_scanned():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("data.pkl", malicious_pickle())
    assert rules(scan_bytes(SEVEN_ZIP_MAGIC + file.getvalue())) >= {"pickle-runs-code", "unread-archive"}


BOMBS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("name", BOMBS)
def test_decompression_bomb_exceeds_inflated_limit(name):
    found = scan_bytes(BOMBS[name](bytes(20_000_000)), limits=ScanLimits(inflated=5_000_000))
    assert found.verdict is Verdict.PARTIAL
    assert "5000000 bytes" in describe(found)


def test_decompression_bomb_exceeds_ratio_limit(monkeypatch):
    monkeypatch.setattr("buildkit.scan.archives.spill.FREE", 2**20)
    assert "1100 times" in describe(scan_bytes(bz2.compress(bytes(20_000_000))))


def test_too_deeply_nested_archive_is_a_gap():
    content = malicious_pickle()
    for _ in range(12):
        content = gzip.compress(content)
    assert "deeper than 8" in describe(scan_bytes(content))


def test_too_many_members_are_a_gap():
    found = scan_bytes(tar({f"{i}.txt": b"x\n" for i in range(30)}), limits=ScanLimits(members=20))
    assert "more than 20 members" in describe(found)
