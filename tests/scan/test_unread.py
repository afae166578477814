"""What is recognised but not read: findings, whatever the setting for files that cannot be scanned says."""

from __future__ import annotations

import gzip
import struct
import tarfile
from io import BytesIO

import pytest

from buildkit.declare.model_allowlist import ModelAllowlist
from buildkit.digest import FileHash
from buildkit.scan import BytesSource, Judgement, Verdict, judge, scan
from tests.scan.formatmaker import pb
from tests.scan.pickler import malicious_pickle, rules

NOISE = b"\x93\x01\xfe" + bytes(range(7, 200)) * 3
BSON = b"\x02tag\0\x06\0\0\0array\0"
CODE = {
    "Java": b"\xac\xed\0\x05sr\0\x11java.util.HashMap",
    "Java in XML": b'<?xml version="1.0"?>\n<java version="1.8" class="java.beans.XMLDecoder">\n</java>\n',
    "R, binary": b"X\n\0\0\0\x03\0\x04\x02\0",
    "R, text": b"A\n3\n262656\n197888\n5\nUTF-8\n",
    "R, native": b"B\n\x03\0\0\0\0\x02\x04\0",
    "RData": b"RDX3\nX\n\0\0\0\x03",
    "Torch7": struct.pack("<iii", 4, 1, 3) + b"V 1" + struct.pack("<i", 13) + b"nn.Sequential",
    "Torch7 as text": b"4\n1\n3\nV 1\n13\nnn.Sequential\n",
    "Torch7 table": struct.pack("<iiiii", 3, 1, 2, 2, 5) + b"model",
    "Torch7 list": struct.pack("<iiiid", 3, 1, 2, 1, 1.0),
    "Torch7 table as text": b"3\n1\n2\n2\n5\nmodel\n",
    "Torch7 function": struct.pack("<iii", 8, 1, 90) + b"\x1bLJ\2",
    ".NET": b"\0\1\0\0\0\xff\xff\xff\xff\1\0\0\0\0\0\0\0\x0c",
    "PHP": b'O:8:"stdClass":1:{s:1:"a";i:1;}',
    "Ruby": b"\x04\x08o:\x0bObject\0",
    "Perl": b"pst0\x04\x0b\x0812345678",
    "Julia": b"7JL\x10\4\0\0\0",
    "Julia in BSON": struct.pack("<i", len(BSON) + 5) + BSON + b"\0",
    "OCaml": b"\x84\x95\xa6\xbe\0\0\0\1",
    "Python's marshal": b"\xe3" + bytes(12) + struct.pack("<II", 2, 0x40) + b"\xf3\x04\0\0\0",
    "Python's marshal, before 3.11": b"\xe3" + bytes(16) + struct.pack("<II", 2, 0x40) + b"s\x04\0\0\0",
    "GDBM": b"\xcf\x9a\x57\x13" + bytes(20),
    "pickle of a later protocol": b"\x80\x06cposix\nsystem\n(S'id'\ntR.",
    "framed pickle of a later protocol": b"\x80\x07\x95" + bytes(8) + b"N.",
    "Blender": b"BLENDER-v279",
    "Mathematica": b"(*This is a Mathematica binary dump file. It can be loaded with Get.*)\n",
    "Paddle": pb((1, pb((1, 0), (2, 2**64 - 1), (3, pb((1, "feed"), (2, pb((1, 9)))))))),
    "Paddle as JSON": b'{"base_code": {"magic": "pir", "trainable": false, "version": 1}, "program": {}}',
    "TensorRT": b"ftrt" + bytes(40),
    "ExecuTorch": b"\x18\0\0\0ET12" + bytes(40),
    "zeros before a pickle": bytes(16) + malicious_pickle(),
    "zeros before a harmless pickle": bytes(5000) + b"\x80\x04\x95\x08\0\0\0\0\0\0\0}\x8c\1a\x8c\1bs.",
    "zeros before an old pickle": bytes(16) + b"cposix\nsystem\n(S'id'\ntR.",
}
PROGRAMS = {
    "LuaJIT": b"\x1bLJ\2\0",
    "APE": b"MZqFpD='\n\0\x10\0",
    "APE for Linux": b"jartsr='\n",
}
ARCHIVES = {
    "7z": b"7z\xbc\xaf\x27\x1c\0\4",
    "RAR": b"Rar!\x1a\x07\1\0",
    "old RAR": b"Rar!\x1a\x07\0",
    "ACE": bytes(7) + b"**ACE**",
    "ARJ": b"\x60\xea\x28\0\x22\x0b\1\2\0",
    "LHA": b"\x1f\x0e-lh5-" + bytes(20),
    "zoo": b"ZOO 2.10 Archive.\x1a\0\0\xdc\xa7\xc4\xfd",
    "ZPAQ": b"7kSt\xa0\x31\x83\xd3\x8c\xb2\x28\xb0\xd3zPQ",
    "XAR": b"xar!\0\x1c\0\1",
    "cpio": b"070701000012AB" + b"0" * 90,
    "cpio, binary": b"\xc7\x71" + bytes(30),
    "compress": b"\x1f\x9d\x90\x01",
    "lzip": b"LZIP\1\x0c",
    "lzop": b"\x89LZO\0\r\n\x1a\n\x10",
    "LZ4, legacy": b"\x02\x21\x4c\x18\x10\0\0\0" + bytes(16),
    "snappy": b"\xff\x06\0\0sNaPpY",
    "bzip3": b"BZ3v1\0\0\0",
    "SquashFS": b"hsqs" + bytes(24) + b"\4\0\0\0",
    "Windows image": b"MSWIM\0\0\0\xd0",
    "ISO 9660": bytes(0x8001) + b"CD001" + bytes(2000),
}


def judged(content: bytes, path: str = "model.bin") -> Judgement:
    return judge(scan(path, BytesSource(content)), path, FileHash("0" * 64), ModelAllowlist())


def tar(name: str, content: bytes) -> bytes:
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w") as out:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        out.addfile(info, BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize("name", CODE)
def test_format_whose_loader_runs_code_is_a_finding_under_any_setting(name: str) -> None:
    for content in (CODE[name], gzip.compress(CODE[name]), tar("a", CODE[name])):
        found = judged(content)
        assert "unread-code-format" in {one.rule.id for one in found.findings}
        assert found.is_refused("warn")


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_that_is_not_read_is_a_finding_under_any_setting(name: str) -> None:
    for content in (ARCHIVES[name], gzip.compress(ARCHIVES[name]), tar("a", ARCHIVES[name])):
        found = judged(content)
        assert "unread-archive" in {one.rule.id for one in found.findings}
        assert found.is_refused("warn")


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_is_found(name: str) -> None:
    assert rules(scan("model.bin", BytesSource(PROGRAMS[name]))) == {"program"}


def test_pickle_behind_zeros_is_scanned() -> None:
    assert "pickle-runs-code" in rules(scan("a", BytesSource(bytes(16) + malicious_pickle())))


CODE_NAMES = ["a.pkl", "A.PKL", "deep/a.pickle", "a.joblib", "a.pt", "a.npy", "a.keras", "a.h5", "a.t7", "a.rds",
              "a.RData", "a.ser", "a.pdparams", "a.pdmodel", "a.jls", "a.engine", "a.so", "a.pyc"]  # fmt: skip
ARCHIVE_NAMES = ["a.br", "a.tar.br", "a.rar", "a.7z", "a.zip", "a.lz", "a.Z", "a.lha"]


@pytest.mark.parametrize("name", [*CODE_NAMES, *ARCHIVE_NAMES])
def test_unknown_content_with_the_name_of_code_or_an_archive_is_a_finding(name: str) -> None:
    rule = "unread-archive" if name in ARCHIVE_NAMES else "unread-code-format"
    for path, content in ((name, NOISE), (f"{name}.gz", gzip.compress(NOISE)), ("a.tar", tar(name, NOISE))):
        found = judged(content, path)
        assert rule in {one.rule.id for one in found.findings}
        assert found.is_refused("warn")


@pytest.mark.parametrize(
    "name", ["a.bin", "weights", "a.pkl/weights.bin", "a.bin.gz", ".pkl/a", "a.data-00000-of-00001"]
)
def test_content_that_is_merely_unknown_is_a_gap(name: str) -> None:
    content = gzip.compress(NOISE) if name.endswith(".gz") else NOISE
    found = judged(content, name)
    assert (found.verdict, found.unknown) == (Verdict.PARTIAL, True)
    assert not found.is_refused("refuse-known")


@pytest.mark.parametrize("content", [b"cat\ndog\n", b'{"a": 1}', b"# a comment\n"])
def test_text_with_the_name_of_a_pickle_is_not_fully_scanned(content: bytes) -> None:
    assert judged(content, "a.txt").verdict is Verdict.CLEAN
    for name in ("a.pkl", "deep/A.JOBLIB", "b.pickle"):
        found = judged(content, name)
        assert (found.verdict, found.is_refused("refuse-known")) == (Verdict.PARTIAL, True)
    assert judged(b"(lp0\nI1\na.", "a.pkl").verdict is Verdict.CLEAN


def test_verdict_of_a_name_is_not_part_of_the_scan() -> None:
    assert scan("a.pkl", BytesSource(NOISE)) == scan("a.bin", BytesSource(NOISE))


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<40f", *range(40)),
        bytes(64) + struct.pack("<40d", *range(1, 41)),
        struct.pack("<40i", *range(4, 44)),
        bytes(4000),
        b"3\n1\n4\n1\n5\n9\n2\n6\n",
        b"4\n1\n3\n2\n",
        b"A\nB\n",
    ],
)
def test_numbers_are_not_taken_for_such_a_format(content: bytes) -> None:
    assert not scan("a.bin", BytesSource(content)).findings
