"""Zip archives whose headers lie; PyTorch's, NumPy's and TorchServe's archives."""

import io
import struct
import zipfile

import numpy as np
import pytest

from buildkit.findings import Severity
from buildkit.scan import Verdict, scan
from tests.scan.pickler import call, evil, look, named, rules, said, text, whole
from tests.scan.test_pickle_streams import tensor

GOOD = whole(b"}" + text("w") + tensor() + b"s")
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


def test_pytorchs_archive_is_clean():
    found = look(bytes(torch()))
    assert (found.verdict, found.formats) == (Verdict.CLEAN, ("zip", "PyTorch", "pickle")), said(found)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_code_in_any_member_is_found(method):
    for name in ("model/data.pkl", "model/data/0", "model/constants.pkl", "model/version", "x.txt", "a/b/c"):
        found = look(bytes(archive({"model/data.pkl": GOOD, name: evil()}, method)))
        assert "pickle-runs-code" in rules(found), said(found)
        assert [one.member for one in found.findings] == [name]


def test_tensors_numbers_are_only_glanced_at():
    content = archive({"model/data.pkl": GOOD, "model/data/0": b"\xff" * 100, "model/data/1": b"\x80\x02\xff" * 9})
    assert look(bytes(content)).verdict is Verdict.CLEAN
    assert look(bytes(archive({"other/0": b"\xff" * 100}))).verdict is Verdict.PARTIAL


def test_torchscript_has_its_own_classes_and_code():
    code = b"class Net(Module):\n  def forward(self, x):\n    return getattr(torch, 'relu')(x)\n"
    module = call(named("__torch__.net", "Net"))
    members = {"net/data.pkl": whole(module), "net/constants.pkl": whole(b")"), "net/code/__torch__/net.py": code}
    found = look(bytes(archive(members)))
    assert (found.verdict, found.formats[1]) == (Verdict.CLEAN, "TorchScript"), said(found)
    members["net/code/__torch__/net.py"] = b"    _0 = torch.save(x, '/root/.bashrc')\n"
    assert rules(look(bytes(archive(members)))) == {"torchscript-files"}


def test_numpys_archives_are_scanned():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.eye(3), b=np.array([None], dtype=object))
    found = look(file.getvalue())
    assert (found.verdict, found.formats[1]) == (Verdict.CLEAN, "NumPy archive")
    header = io.BytesIO()
    np.save(header, np.array([None], dtype=object), allow_pickle=True)
    bad = header.getvalue()[: header.getvalue().index(b"\n") + 1] + evil()
    found = look(bytes(archive({"a.npy": bad}, zipfile.ZIP_DEFLATED)))
    assert found.findings[0].member == "a.npy!objects"


def test_torchserves_archive_holds_models():
    inner = bytes(torch(evil()))
    found = look(bytes(archive({"MAR-INF/MANIFEST.json": b'{"model": {}}', "model.pt": inner}, zipfile.ZIP_DEFLATED)))
    assert "TorchServe archive" in found.formats
    assert any(one.member == "model.pt!model/data.pkl" for one in found.findings)


def test_a_stored_archive_in_an_archive_is_no_trick():
    found = look(bytes(archive({"a.pt": bytes(torch()), "b.pt": bytes(torch())})))
    assert found.verdict is Verdict.CLEAN, said(found)


def test_the_header_beside_the_content_has_another_name():
    content = torch()
    at = content.index(b"model/data.pkl")
    content[at : at + 14] = b"model/datap.kl"
    found = look(bytes(content))
    assert rules(found) == {"zip-headers-disagree"}
    assert "model/datap.kl" in found.findings[0].what


@pytest.mark.parametrize(
    ("at", "value"), [(0, b"PK\x09\x09"), (8, b"\x08\0"), (14, b"abcd"), (18, b"\x05\0\0\0"), (22, b"\x05\0\0\0")]
)
def test_the_header_beside_the_content_lies(at, value):
    content = archive({"data.pkl": evil(), "version": b"3"})
    content[at : at + len(value)] = value
    found = look(bytes(content))
    assert {"zip-headers-disagree", "pickle-runs-code"} <= rules(found), said(found)


@pytest.mark.parametrize(("at", "value"), [(10, b"\x08\0"), (16, b"abcd"), (20, b"\x05\0\0\0"), (24, b"\x05\0\0\0")])
def test_the_directory_lies(at, value):
    content = archive({"data.pkl": evil(), "version": b"3"})
    start = central(content) + at
    content[start : start + len(value)] = value
    found = look(bytes(content))
    assert {"zip-headers-disagree", "pickle-runs-code"} <= rules(found), said(found)


@pytest.mark.parametrize("flag", [0x01, 0x20, 0x40, 0x2000])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_claims_to_be_encrypted_is_scanned(flag, method):
    content = archive({"data.pkl": evil()}, method)
    for at in (6, central(content) + 8):
        content[at : at + 2] = struct.pack("<H", flag)
    found = look(bytes(content))
    assert {"zip-flags-lie", "pickle-runs-code"} <= rules(found)


def test_what_is_encrypted_is_a_gap():
    content = archive({"data.pkl": b"\x99\xfe" * 30})
    for at in (6, central(content) + 8):
        content[at] |= 1
    for at in (14, central(content) + 16):
        content[at : at + 4] = b"abcd"
    found = look(bytes(content))
    assert (found.verdict, said(found)) == (Verdict.PARTIAL, " data.pkl is encrypted")


def test_a_wrong_checksum_hides_nothing():
    content = archive({"data.pkl": evil()}, zipfile.ZIP_DEFLATED)
    for at in (14, central(content) + 16):
        content[at : at + 4] = b"abcd"
    assert rules(look(bytes(content))) == {"zip-checksum", "pickle-runs-code"}


def test_members_that_the_directory_does_not_name():
    both = archive({"data.pkl": GOOD, "hidden.pkl": evil()}, zipfile.ZIP_DEFLATED)
    first = central(both)
    second = both.index(b"PK\x01\x02", first + 4)
    bent = both[:first] + both[first:second] + both[end(both) :]
    at = end(bent)
    bent[at + 8 : at + 20] = struct.pack("<HHII", 1, 1, second - first, first)
    assert zipfile.ZipFile(io.BytesIO(bent)).namelist() == ["data.pkl"]
    found = look(bytes(bent))
    assert {"zip-hidden-member", "pickle-runs-code"} <= rules(found), said(found)


def test_members_behind_the_directory_and_before_the_first():
    hidden = archive({"hidden.pkl": evil()})
    hidden = hidden[: central(hidden)]
    content = torch()
    behind = content[: end(content)] + hidden + content[end(content) :]
    for bent in (behind, hidden + content, content + hidden):
        found = look(bytes(bent))
        assert {"zip-hidden-member", "pickle-runs-code"} <= rules(found), said(found)


def test_something_else_before_or_behind():
    content = bytes(archive({"data.pkl": GOOD}))
    assert "pickle-runs-code" in rules(look(evil() + content))
    assert "pickle-runs-code" in rules(look(content + evil()))
    assert look(b"\xfe\xdc\xba" * 50 + content).verdict is Verdict.PARTIAL
    assert look(content + bytes(100)).verdict is Verdict.CLEAN


def test_two_directories():
    first, second = archive({"data.pkl": GOOD}), archive({"data.pkl": evil()})
    found = look(bytes(first + second))
    assert "pickle-runs-code" in rules(found), said(found)
    inner = archive({"data.pkl": evil()})
    comment = torch()
    comment[end(comment) + 20 : end(comment) + 22] = struct.pack("<H", len(inner))
    found = look(bytes(comment + inner))
    assert "pickle-runs-code" in rules(found), said(found)


def test_two_members_of_one_name():
    content = archive({"data.pkl": GOOD, "evil.pkl": evil()})
    twice = bytes(content).replace(b"evil.pkl", b"data.pkl")
    assert {"archive-duplicate-member", "pickle-runs-code"} <= rules(look(twice))


def test_without_an_end_the_members_are_found():
    content = archive({"a.pkl": GOOD, "data.pkl": evil()}, zipfile.ZIP_DEFLATED)
    for cut in (end(content), end(content) + 10, central(content), central(content) + 20):
        found = look(bytes(content[:cut]))
        assert "pickle-runs-code" in rules(found), (cut, said(found))
        assert found.gaps


def test_sizes_that_stand_behind_the_content():
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
        out.writestr("data.pkl", whole(b"N"))
    content = pipe.getvalue()
    assert look(content).verdict is Verdict.CLEAN, said(look(content))
    bad = content[: content.index(b"PK\x01\x02")]
    assert [gap.why for gap in look(bad).gaps] == ["the zip archive has no readable directory"]


def test_bytes_behind_the_end_of_a_compressed_member():
    content = archive({"data.pkl": GOOD}, zipfile.ZIP_DEFLATED)
    start, more = central(content), b"\xfe\xdc\xba\x98"
    bent = content[:start] + more + content[start:]
    for at in (18, start + len(more) + 20, end(bent) + 16):
        struct.pack_into("<I", bent, at, struct.unpack_from("<I", bent, at)[0] + len(more))
    assert zipfile.ZipFile(io.BytesIO(bent)).read("data.pkl") == GOOD
    assert rules(look(bytes(bent))) == {"zip-headers-disagree"}


def test_zip64_is_read():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out, out.open("data.pkl", "w", force_zip64=True) as member:
        member.write(evil())
    assert rules(look(file.getvalue())) == {"pickle-runs-code"}
    plain = archive({"data.pkl": evil()})
    at, start = end(plain), central(plain)
    long = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, at - start, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    record = bytearray(plain[at:])
    record[8:20] = b"\xff" * 12
    found = look(bytes(plain[:at] + long + locator + record))
    assert rules(found) == {"pickle-runs-code"}, said(found)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x", "C:x"])
def test_names_that_escape(name):
    found = look(bytes(archive({name: GOOD})))
    assert rules(found) == {"archive-path-escapes"}
    assert found.findings[0].severity is Severity.HIGH


def test_methods_that_are_not_read_are_a_gap():
    content = archive({"data.pkl": GOOD})
    for at in (8, central(content) + 10):
        content[at] = 98
    assert look(bytes(content)).verdict is Verdict.PARTIAL


def test_content_that_does_not_inflate_is_a_gap_and_its_beginning_scanned():
    payload = whole(call(named("os", "system"), text("id")) + b"".join(text(f"{i:x}" * 9) for i in range(4000)))
    content = archive({"data.pkl": payload}, zipfile.ZIP_DEFLATED)
    middle = central(content) // 2
    content[middle : middle + 40] = b"\xff" * 40
    found = look(bytes(content))
    assert "pickle-runs-code" in rules(found)
    assert found.gaps


def test_the_same_bytes_in_two_members_are_said():
    content = archive({"a.pkl": GOOD, "b.pkl": GOOD})
    second = content.index(b"PK\x01\x02", central(content) + 4)
    content[second + 42 : second + 46] = struct.pack("<I", 10)
    assert look(bytes(content)).verdict is not Verdict.CLEAN


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
