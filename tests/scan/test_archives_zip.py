"""Zip archives with contradictory headers; archives of PyTorch, NumPy and TorchServe."""

import io
import struct
import zipfile

import numpy as np
import pytest

from buildkit.findings import Severity
from buildkit.scan import Verdict, scan
from tests.scan.pickler import call, describe, malicious_pickle, named, pickle_stream, rules, scan_bytes, text
from tests.scan.test_pickle_streams import tensor

GOOD = pickle_stream(b"}" + text("w") + tensor() + b"s")
NUMBERS = struct.pack("<4f", 1, 2, 3, 4)
LABELS = {"byteorder": b"little", "version": b"3\n", ".data/serialization_id": b"0" * 40, ".format_version": b"1"}


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as out:
        for name, content in members.items():
            out.writestr(zipfile.ZipInfo(name), content, method)
    return bytearray(file.getvalue())


def torch(pickle: bytes = GOOD, root: str = "model/", **more: bytes) -> bytearray:
    return archive(
        {f"{root}data.pkl": pickle, f"{root}data/0": NUMBERS} | {f"{root}{key}": LABELS[key] for key in LABELS} | more
    )


def central(content: bytearray) -> int:
    return content.index(b"PK\x01\x02")


def end(content: bytearray) -> int:
    return content.rindex(b"PK\x05\x06")


def test_pytorch_archive_is_clean():
    found = scan_bytes(bytes(torch()))
    assert (found.verdict, found.formats) == (Verdict.CLEAN, ("zip", "PyTorch", "pickle")), describe(found)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_malicious_pickle_is_found_in_any_member(method):
    for name in ("model/data.pkl", "model/data/0", "model/constants.pkl", "model/version", "x.txt", "a/b/c"):
        found = scan_bytes(bytes(archive({"model/data.pkl": GOOD, name: malicious_pickle()}, method)))
        assert "pickle-runs-code" in rules(found), describe(found)
        assert [one.member for one in found.findings] == [name]


def test_tensor_numbers_are_not_scanned_in_full():
    content = archive({"model/data.pkl": GOOD, "model/data/0": b"\xff" * 100, "model/data/1": b"\x80\x02\xff" * 9})
    assert scan_bytes(bytes(content)).verdict is Verdict.CLEAN
    assert scan_bytes(bytes(archive({"other/0": b"\xff" * 100}))).verdict is Verdict.PARTIAL


def test_torchscript_code_is_checked_for_file_operators():
    code = b"class Net(Module):\n  def forward(self, x):\n    return getattr(torch, 'relu')(x)\n"
    module = call(named("__torch__.net", "Net"))
    members = {
        "net/data.pkl": pickle_stream(module),
        "net/constants.pkl": pickle_stream(b")"),
        "net/code/__torch__/net.py": code,
    }
    found = scan_bytes(bytes(archive(members)))
    assert (found.verdict, found.formats[1]) == (Verdict.CLEAN, "TorchScript"), describe(found)
    members["net/code/__torch__/net.py"] = b"    _0 = torch.save(x, '/root/.bashrc')\n"
    assert rules(scan_bytes(bytes(archive(members)))) == {"torchscript-files"}


def test_numpy_archive_is_scanned():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.eye(3), b=np.array([None], dtype=object))
    found = scan_bytes(file.getvalue())
    assert (found.verdict, found.formats[1]) == (Verdict.CLEAN, "NumPy archive")
    header = io.BytesIO()
    np.save(header, np.array([None], dtype=object), allow_pickle=True)
    bad = header.getvalue()[: header.getvalue().index(b"\n") + 1] + malicious_pickle()
    found = scan_bytes(bytes(archive({"a.npy": bad}, zipfile.ZIP_DEFLATED)))
    assert found.findings[0].member == "a.npy!objects"


def test_models_in_torchserve_archive_are_scanned():
    inner = bytes(torch(malicious_pickle()))
    found = scan_bytes(
        bytes(archive({"MAR-INF/MANIFEST.json": b'{"model": {}}', "model.pt": inner}, zipfile.ZIP_DEFLATED))
    )
    assert "TorchServe archive" in found.formats
    assert any(one.member == "model.pt!model/data.pkl" for one in found.findings)


def test_stored_archive_in_archive_is_clean():
    found = scan_bytes(bytes(archive({"a.pt": bytes(torch()), "b.pt": bytes(torch())})))
    assert found.verdict is Verdict.CLEAN, describe(found)


def test_local_header_with_another_name_is_found():
    content = torch()
    at = content.index(b"model/data.pkl")
    content[at : at + 14] = b"model/datap.kl"
    found = scan_bytes(bytes(content))
    assert rules(found) == {"zip-headers-disagree"}
    assert "model/datap.kl" in found.findings[0].what


@pytest.mark.parametrize(
    ("at", "value"), [(0, b"PK\x09\x09"), (8, b"\x08\0"), (14, b"abcd"), (18, b"\x05\0\0\0"), (22, b"\x05\0\0\0")]
)
def test_local_header_that_differs_from_directory_is_found(at, value):
    content = archive({"data.pkl": malicious_pickle(), "version": b"3"})
    content[at : at + len(value)] = value
    found = scan_bytes(bytes(content))
    assert {"zip-headers-disagree", "pickle-runs-code"} <= rules(found), describe(found)


@pytest.mark.parametrize(("at", "value"), [(10, b"\x08\0"), (16, b"abcd"), (20, b"\x05\0\0\0"), (24, b"\x05\0\0\0")])
def test_directory_that_differs_from_content_is_found(at, value):
    content = archive({"data.pkl": malicious_pickle(), "version": b"3"})
    start = central(content) + at
    content[start : start + len(value)] = value
    found = scan_bytes(bytes(content))
    assert {"zip-headers-disagree", "pickle-runs-code"} <= rules(found), describe(found)


@pytest.mark.parametrize("flag", [0x01, 0x20, 0x40, 0x2000])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_member_falsely_marked_as_encrypted_is_scanned(flag, method):
    content = archive({"data.pkl": malicious_pickle()}, method)
    for at in (6, central(content) + 8):
        content[at : at + 2] = struct.pack("<H", flag)
    found = scan_bytes(bytes(content))
    assert {"zip-flags-lie", "pickle-runs-code"} <= rules(found)


def test_encrypted_member_is_a_gap():
    content = archive({"data.pkl": b"\x99\xfe" * 30})
    for at in (6, central(content) + 8):
        content[at] |= 1
    for at in (14, central(content) + 16):
        content[at : at + 4] = b"abcd"
    found = scan_bytes(bytes(content))
    assert (found.verdict, describe(found)) == (Verdict.PARTIAL, " data.pkl is encrypted")


def test_member_with_wrong_checksum_is_scanned():
    content = archive({"data.pkl": malicious_pickle()}, zipfile.ZIP_DEFLATED)
    for at in (14, central(content) + 16):
        content[at : at + 4] = b"abcd"
    assert rules(scan_bytes(bytes(content))) == {"zip-checksum", "pickle-runs-code"}


def test_member_missing_from_directory_is_found():
    both = archive({"data.pkl": GOOD, "hidden.pkl": malicious_pickle()}, zipfile.ZIP_DEFLATED)
    first = central(both)
    second = both.index(b"PK\x01\x02", first + 4)
    bent = both[:first] + both[first:second] + both[end(both) :]
    at = end(bent)
    bent[at + 8 : at + 20] = struct.pack("<HHII", 1, 1, second - first, first)
    assert zipfile.ZipFile(io.BytesIO(bent)).namelist() == ["data.pkl"]
    found = scan_bytes(bytes(bent))
    assert {"zip-hidden-member", "pickle-runs-code"} <= rules(found), describe(found)


def test_members_after_directory_and_before_first_are_found():
    hidden = archive({"hidden.pkl": malicious_pickle()})
    hidden = hidden[: central(hidden)]
    content = torch()
    behind = content[: end(content)] + hidden + content[end(content) :]
    for bent in (behind, hidden + content, content + hidden):
        found = scan_bytes(bytes(bent))
        assert {"zip-hidden-member", "pickle-runs-code"} <= rules(found), describe(found)


def test_content_before_or_after_archive_is_scanned():
    content = bytes(archive({"data.pkl": GOOD}))
    assert "pickle-runs-code" in rules(scan_bytes(malicious_pickle() + content))
    assert "pickle-runs-code" in rules(scan_bytes(content + malicious_pickle()))
    assert scan_bytes(b"\xfe\xdc\xba" * 50 + content).verdict is Verdict.PARTIAL
    assert scan_bytes(content + bytes(100)).verdict is Verdict.CLEAN


def test_differing_directories_are_found():
    first, second = archive({"data.pkl": GOOD}), archive({"data.pkl": malicious_pickle()})
    found = scan_bytes(bytes(first + second))
    assert "pickle-runs-code" in rules(found), describe(found)
    inner = archive({"data.pkl": malicious_pickle()})
    comment = torch()
    comment[end(comment) + 20 : end(comment) + 22] = struct.pack("<H", len(inner))
    found = scan_bytes(bytes(comment + inner))
    assert "pickle-runs-code" in rules(found), describe(found)


def test_duplicate_member_name_is_found():
    content = archive({"data.pkl": GOOD, "evil.pkl": malicious_pickle()})
    twice = bytes(content).replace(b"evil.pkl", b"data.pkl")
    assert {"archive-duplicate-member", "pickle-runs-code"} <= rules(scan_bytes(twice))


def test_members_are_found_without_end_record():
    content = archive({"a.pkl": GOOD, "data.pkl": malicious_pickle()}, zipfile.ZIP_DEFLATED)
    for cut in (end(content), end(content) + 10, central(content), central(content) + 20):
        found = scan_bytes(bytes(content[:cut]))
        assert "pickle-runs-code" in rules(found), (cut, describe(found))
        assert found.gaps


def test_data_descriptors_are_accounted_for():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *args):
            raise OSError

        def tell(self):
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a.pkl", GOOD)
        out.writestr("data.pkl", pickle_stream(b"N"))
    content = pipe.getvalue()
    assert scan_bytes(content).verdict is Verdict.CLEAN, describe(scan_bytes(content))
    bad = content[: content.index(b"PK\x01\x02")]
    assert [gap.why for gap in scan_bytes(bad).gaps] == ["the zip archive has no readable directory"]


def test_bytes_after_compressed_member_are_found():
    content = archive({"data.pkl": GOOD}, zipfile.ZIP_DEFLATED)
    start, more = central(content), b"\xfe\xdc\xba\x98"
    bent = content[:start] + more + content[start:]
    for at in (18, start + len(more) + 20, end(bent) + 16):
        struct.pack_into("<I", bent, at, struct.unpack_from("<I", bent, at)[0] + len(more))
    assert zipfile.ZipFile(io.BytesIO(bent)).read("data.pkl") == GOOD
    assert rules(scan_bytes(bytes(bent))) == {"zip-headers-disagree"}


def test_zip64_is_read():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out, out.open("data.pkl", "w", force_zip64=True) as member:
        member.write(malicious_pickle())
    assert rules(scan_bytes(file.getvalue())) == {"pickle-runs-code"}
    plain = archive({"data.pkl": malicious_pickle()})
    at, start = end(plain), central(plain)
    long = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, at - start, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    record = bytearray(plain[at:])
    record[8:20] = b"\xff" * 12
    found = scan_bytes(bytes(plain[:at] + long + locator + record))
    assert rules(found) == {"pickle-runs-code"}, describe(found)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x", "C:x"])
def test_escaping_member_names_are_found(name):
    found = scan_bytes(bytes(archive({name: GOOD})))
    assert rules(found) == {"archive-path-escapes"}
    assert found.findings[0].severity is Severity.HIGH


def test_unsupported_compression_method_is_a_gap():
    content = archive({"data.pkl": GOOD})
    for at in (8, central(content) + 10):
        content[at] = 98
    assert scan_bytes(bytes(content)).verdict is Verdict.PARTIAL


def test_corrupt_member_is_a_gap_and_its_beginning_is_scanned():
    payload = pickle_stream(call(named("os", "system"), text("id")) + b"".join(text(f"{i:x}" * 9) for i in range(4000)))
    content = archive({"data.pkl": payload}, zipfile.ZIP_DEFLATED)
    middle = central(content) // 2
    content[middle : middle + 40] = b"\xff" * 40
    found = scan_bytes(bytes(content))
    assert "pickle-runs-code" in rules(found)
    assert found.gaps


def test_overlapping_members_are_found():
    content = archive({"a.pkl": GOOD, "b.pkl": GOOD})
    second = content.index(b"PK\x01\x02", central(content) + 4)
    content[second + 42 : second + 46] = struct.pack("<I", 10)
    assert scan_bytes(bytes(content)).verdict is not Verdict.CLEAN


def test_large_tensors_are_not_read():
    class Counted:
        def __init__(self, content):
            self.content, self.size, self.read_bytes = content, len(content), 0

        def read(self, offset, count):
            part = self.content[offset : offset + max(0, count)]
            self.read_bytes += len(part)
            return part

    numbers = bytes(range(256)) * 4 * 2**10 * 8
    source = Counted(bytes(archive({"m/data.pkl": GOOD} | {f"m/data/{i}": numbers for i in range(4)})))
    assert scan("m", source).verdict is Verdict.CLEAN
    assert source.read_bytes < source.size // 20
