"""Root layers made from crafted tars."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator

import pytest

from buildkit.declare.stage import User
from buildkit.errors import BuildError, MismatchError, ToolError
from buildkit.layers.globs import compile_excludes
from buildkit.layers.root.pack import CA_BUNDLE, RootRules, pack_root
from buildkit.layers.tar.member import Compression, PackedLayer
from buildkit.locks.pins import AptPin

PASSWD = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"
USER = User(name="mluser", uid=1000, gid=1000, home="/home/mluser")
DIR, LINK, HARD, CHAR, FIFO = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE


def entry(
    name: str, data: bytes | str = b"", *, kind: bytes = tarfile.REGTYPE, **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    data = data.encode() if isinstance(data, str) else data
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, len(data), 1700000000
    info.mode = 0o755 if kind == DIR else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def make_tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pack(tar: bytes | Iterable[bytes], rules: RootRules | None = None) -> tuple[PackedLayer, bytes]:
    out = io.BytesIO()
    chunks = [tar[i : i + 1000] for i in range(0, len(tar), 1000)] if isinstance(tar, bytes) else tar
    return pack_root(chunks, rules or RootRules(), out, Compression.NONE), out.getvalue()


def unpack(data: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            found[info.name] = info, file.read() if file else b""
    return found


def run(*entries: tuple[tarfile.TarInfo, bytes], **rules: object) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    return unpack(pack(make_tar(*entries), RootRules(**rules))[1])  # type: ignore[arg-type]


def test_pack_root_drops_times_and_owner_names_only() -> None:
    given = entry("./usr/bin/su", b"elf", mode=0o4755, uid=3, gid=100000, uname="me", gname="us")
    found = run(entry("./usr/", kind=DIR, mode=0o2775, gid=8), given, entry("./bin", kind=LINK, linkname="usr/bin"))
    info, data = found["usr/bin/su"]
    assert (info.mode, info.uid, info.gid, info.mtime, info.uname, data) == (0o4755, 3, 100000, 0, "", b"elf")
    assert (found["usr"][0].mode, found["usr"][0].gid, found["usr"][0].mtime) == (0o2775, 8, 0)
    assert found["bin"][0].linkname == "usr/bin"


def test_a_large_id_a_long_name_and_a_name_that_is_not_ascii_survive() -> None:
    long = "usr/share/" + "x" * 90 + "/" + "y" * 120
    found = run(entry(f"./{long}", b"1", uid=2**22), entry("./usr/Főtanúsítvány.pem", b"2"))
    assert found[long][0].uid == 2**22
    assert found["usr/Főtanúsítvány.pem"][1] == b"2"


def test_file_capabilities_are_kept_and_host_labels_dropped() -> None:
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\xff\xfe"
    records = {
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.security.selinux": "system_u:object_r:bin_t:s0",
        "atime": "1700000000.5",
    }
    out = pack(make_tar(entry("./usr/bin/ping", b"p", pax_headers=records)))[1]
    assert b"SCHILY.xattr.security.capability=" + capability + b"\n" in out
    assert b"selinux" not in out
    assert b"atime" not in out


def test_drop_setuid_clears_bits_and_capabilities_of_files_only() -> None:
    records = {"SCHILY.xattr.security.capability": "caps"}
    found = run(
        entry("./var/mail/", kind=DIR, mode=0o2775),
        entry("./tmp/", kind=DIR, mode=0o1777),
        entry("./usr/bin/su", b"elf", mode=0o6755, pax_headers=records),
        entry("./usr/bin/sg", kind=HARD, linkname="./usr/bin/su", mode=0o6755),
        drop_setuid=True,
    )
    assert found["usr/bin/su"][0].mode == found["usr/bin/sg"][0].mode == 0o755
    assert not found["usr/bin/su"][0].pax_headers
    assert found["var/mail"][0].mode == 0o2775
    assert found["tmp"][0].mode == 0o1777


@pytest.mark.parametrize(
    "path",
    [
        "dev/null", "proc/x", "var/log/dpkg.log", "var/cache/apt/pkgcache.bin", "var/lib/apt/lists/lock", "etc/passwd-",
        "var/cache/ldconfig/aux-cache", "var/lib/dpkg/status-old", "var/lib/apt/extended_states", "etc/.pwd.lock",
        "usr/share/python3/debpython/__pycache__/x.cpython-313.pyc", "tmp/leftover", "var/cache/debconf/config.dat-old",
        "usr/lib/python3/dist-packages/__pycache__/x.cpython-313.pyc",
    ],
)  # fmt: skip
def test_files_that_depend_on_host_or_time_are_dropped(path: str) -> None:
    assert path not in run(entry(f"./{path}", b"host"))


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib/python3.13/__pycache__/os.cpython-313.pyc", "usr/lib/python3.13/json/__pycache__/x.cpython-313.pyc",
        "var/lib/dpkg/info/apt.list", "etc/ld.so.cache", "var/cache/debconf/config.dat", "usr/share/doc/x/copyright",
    ],
)  # fmt: skip
def test_files_of_packages_are_kept(path: str) -> None:
    assert run(entry(f"./{path}", b"debian"))[path][1] == b"debian"


def test_devices_and_pipes_are_dropped_and_folders_kept() -> None:
    found = run(
        entry("./dev/", kind=DIR),
        entry("./dev/null", kind=CHAR, devmajor=1, devminor=3),
        entry("./opt/pipe", kind=FIFO),
        entry("./opt/odd", kind=CHAR),
        entry("./var/log/apt/", kind=DIR),
    )
    assert {"dev", "var/log/apt"} <= found.keys()
    assert not {"dev/null", "opt/pipe", "opt/odd"} & found.keys()


def test_hostname_and_resolver_files_are_emptied() -> None:
    found = run(entry("./etc/resolv.conf", "nameserver 10.0.0.1\n", mode=0o755), entry("./etc/machine-id", "abc\n"))
    for path in ("etc/resolv.conf", "etc/hostname", "etc/hosts", "etc/machine-id"):
        assert found[path][1] == b""
        assert found[path][0].mode == 0o644
    assert "etc/machine-id" not in run()


def test_account_is_added_to_existing_files() -> None:
    found = run(
        entry("./etc/passwd", PASSWD),
        entry("./etc/group", "root:x:0:\n"),
        entry("./etc/shadow", "root:*:20413:0:99999:7:::\n", mode=0o640, gid=42),
        entry("./etc/gshadow", "root:*::\n", mode=0o640, gid=42),
        users=(USER,),
    )
    assert found["etc/passwd"][1].decode() == PASSWD + "mluser:x:1000:1000::/home/mluser:/usr/sbin/nologin\n"
    assert found["etc/group"][1] == b"root:x:0:\nmluser:x:1000:\n"
    assert found["etc/shadow"][1] == b"root:*::0:99999:7:::\nmluser:!::0:99999:7:::\n"
    assert (found["etc/shadow"][0].mode, found["etc/shadow"][0].gid) == (0o640, 42)
    assert found["etc/gshadow"][1] == b"root:*::\nmluser:!::\n"
    home = found["home/mluser"][0]
    assert (home.isdir(), home.uid, home.gid, home.mode) == (True, 1000, 1000, 0o750)
    assert found["home"][0].uid == 0


def test_root_without_accounts_gets_root_and_nobody() -> None:
    found = run(users=(USER,))
    names = [line.split(":")[0] for line in found["etc/passwd"][1].decode().splitlines()]
    assert names == ["root", "nobody", "mluser"]
    assert found["etc/shadow"][0].mode == 0o600


def test_conflicting_account_is_refused_and_an_equal_one_accepted() -> None:
    line = "mluser:x:1000:1000::/home/mluser:/usr/sbin/nologin\n"
    assert run(entry("./etc/passwd", line), users=(USER,))["etc/passwd"][1].decode() == line
    for taken in ("ubuntu:x:1000:1000::/:/bin/sh\n", "mluser:x:7:7::/:/bin/sh\n"):
        with pytest.raises(BuildError, match="cannot add the user mluser"):
            run(entry("./etc/passwd", taken), users=(USER,))
    with pytest.raises(BuildError, match="a group mluser with another id"):
        run(entry("./etc/group", "mluser:x:7:\n"), users=(USER,))


def test_certificate_bundle_is_created_if_no_script_created_it() -> None:
    certificates = (
        entry("./usr/share/ca-certificates/mozilla/B.crt", "b"),
        entry("./usr/share/ca-certificates/mozilla/A.crt", "a\n"),
    )
    assert run(*certificates)[CA_BUNDLE][1] == b"a\nb\n"
    without = run(*certificates, exclude=("usr/share/ca-certificates",))
    assert without[CA_BUNDLE][1] == b"a\nb\n"
    assert "usr/share/ca-certificates/mozilla/A.crt" not in without
    assert run(*certificates, entry(f"./{CA_BUNDLE}", "own\n"))[CA_BUNDLE][1] == b"own\n"


def test_python3_link_is_added_if_no_package_has_it() -> None:
    pythons = entry("./usr/bin/python3.9", b"old"), entry("./usr/bin/python3.13", b"new")
    tools = entry("./usr/bin/python3.13-config", b"sh")
    assert run(*pythons, tools)["usr/bin/python3"][0].linkname == "python3.13"
    own = entry("./usr/bin/python3", kind=LINK, linkname="python3.9")
    assert run(own, *pythons)["usr/bin/python3"][0].linkname == "python3.9"
    assert "usr/bin/python3" not in run(tools)


def test_excluded_paths_are_dropped_and_a_kept_file_keeps_its_folder() -> None:
    found = run(
        entry("./usr/share/doc/", kind=DIR),
        entry("./usr/share/doc/bash/", kind=DIR, mode=0o711),
        entry("./usr/share/doc/bash/copyright", "GPL"),
        entry("./usr/share/doc/bash/changelog.gz", "x"),
        entry("./usr/share/doc/zsh/", kind=DIR),
        entry("./usr/share/doc/zsh/changelog.gz", "x"),
        exclude=("usr/share/doc/**", "!usr/share/doc/*/copyright"),
    )
    docs = [name for name in found if name.startswith("usr/share/doc")]
    assert docs == ["usr/share/doc", "usr/share/doc/bash", "usr/share/doc/bash/copyright"]
    assert found["usr/share/doc/bash"][0].mode == 0o711


@pytest.mark.parametrize(
    ("pattern", "path", "out"),
    [
        ("usr/share/man", "usr/share/man", True),
        ("/usr/share/man/", "usr/share/man/man1/ls.1.gz", True),
        ("usr/share/man/**", "usr/share/man", False),
        ("usr/share/man/**", "usr/share/man/man1/ls.1.gz", True),
        ("usr/share/*/x", "usr/share/a/b/x", False),
        ("**/x", "x", True),
        ("**/x", "a/b/x", True),
        ("**/x", "a/bx", False),
        ("usr/bin/py3*", "usr/bin/py3compile", True),
        ("usr/bin/py3*", "usr/bin/python3", False),
        ("a/[bc].so", "a/b.so", True),
        ("a/[!bc].so", "a/b.so", False),
        ("a/?", "a/bc", False),
        ("a+(b)", "a+(b)", True),
        ("a[", "a[", True),
    ],
)  # fmt: skip
def test_exclude_patterns_match(pattern: str, path: str, out: bool) -> None:
    assert compile_excludes((pattern,))(path) is out


def test_hard_link_needs_its_file() -> None:
    perl = entry("./usr/bin/perl", b"elf")
    link = entry("./usr/bin/perl5", kind=HARD, linkname="./usr/bin/perl")
    packed, data = pack(make_tar(perl, link))
    assert unpack(data)["usr/bin/perl5"][0].linkname == "usr/bin/perl"
    contents = dict(packed.contents)
    assert contents["usr/bin/perl"] == contents["usr/bin/perl5"]
    with pytest.raises(BuildError, match="hard link to usr/bin/perl, which is left out"):
        run(perl, link, exclude=("usr/bin/perl",))


STATUS = """\
Package: apt
Status: install ok installed
Version: 3.0

Package: rc
Status: deinstall ok config-files
Version: 1
"""


def test_locked_packages_are_accepted() -> None:
    run(entry("./var/lib/dpkg/status", STATUS), pins=(AptPin(name="apt", version="3.0"),))
    single = entry("./var/lib/dpkg/status.d/apt", "Package: apt\nVersion: 3.0\nDescription: x\n Version: 9\n")
    run(entry("./var/lib/dpkg/status", ""), single, pins=(AptPin(name="apt", version="3.0"),))


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ((("apt", "2.9"),), "apt 3.0 is installed, 2.9 is locked"),
        ((("apt", "3.0"), ("bash", "5")), "bash 5 is locked and not installed"),
        ((("bash", "5"),), "apt 3.0 is installed and not locked"),
    ],
)
def test_packages_that_differ_from_the_lock_are_listed(pins: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(MismatchError, match=message):
        run(
            entry("./var/lib/dpkg/status", STATUS),
            pins=tuple(AptPin(name=name, version=version) for name, version in pins),
        )


def test_damaged_tar_is_refused_wherever_it_breaks() -> None:
    whole = make_tar(entry("./a", b"x" * 3000), entry("./b", b"y" * 3000))
    at_header = 512 + 3072
    for broken in (
        whole[:700],  # within a file
        whole[:at_header],  # between two entries: no end marker
        whole[: at_header + 100],  # within a header
        whole[:at_header] + b"\xff" * 512 + whole[at_header + 512 :],
        b"",
        b"not a tar at all" * 64,
    ):
        with pytest.raises(BuildError, match="damaged"):
            pack(broken)


@pytest.mark.parametrize("name", ["../etc/passwd", "a/../../b", "usr/.wh.bin", ".wh..wh..opq"])
def test_a_path_that_a_layer_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(BuildError, match=r"has a (path that climbs|name that deletes)"):
        run(entry(name, b"x"))


def test_a_path_that_comes_twice_is_refused_and_a_folder_is_not() -> None:
    run(entry("./a/", kind=DIR), entry("./a/", kind=DIR))
    for pair in ((entry("./a"), entry("./a")), (entry("./a"), entry("./a/b")), (entry("./a/b"), entry("./a"))):
        with pytest.raises(BuildError, match=r"twice|something else"):
            run(*pair)


def test_error_of_the_producer_wins_over_a_damaged_tar() -> None:
    def failing() -> Iterator[bytes]:
        yield b"half a header"
        raise ToolError("mmdebstrap failed with exit code 25")

    with pytest.raises(ToolError, match="exit code 25"):
        pack(failing())


def test_producer_is_read_to_its_end() -> None:
    def late() -> Iterator[bytes]:
        yield make_tar(entry("./a"))
        raise ToolError("failed after the last byte")

    with pytest.raises(ToolError, match="after the last byte"):
        pack(late())


def test_layer_of_a_root_does_not_depend_on_chunks_or_times() -> None:
    one = make_tar(entry("./etc/passwd", PASSWD), entry("./usr/x", b"x" * 2000, mtime=1))
    two = make_tar(entry("./etc/passwd", PASSWD), entry("./usr/x", b"x" * 2000, mtime=2))
    rules = RootRules(users=(USER,))
    first, second = pack(one, rules)[0], pack([two[:7], b"", two[7:]], rules)[0]
    assert first == second
    assert first.diff_id.hex == "18dab62c76054c70c7e3e977108270e1f823d3232df45dbf9479086cbdd93f0f"


RECORD = "./var/lib/dpkg/status.d/tool"
SUMS = "0a  usr/bin/tool\n0b  usr/share/doc/tool/README\n0c  usr/lib/tool/part\n"


def packaged(*exclude: str, sums: str = SUMS) -> dict[str, bytes]:
    """A root with one package, whose records are those of a root without dpkg."""
    found = run(
        entry("./usr/bin/tool", "1"), entry("./usr/share/doc/tool/README", "2"), entry("./usr/lib/tool/part", "3"),
        entry(RECORD, "Package: tool\nVersion: 1\n"), entry(f"{RECORD}.md5sums", sums), exclude=exclude,
    )  # fmt: skip
    return {path: data for path, (_, data) in found.items()}


def test_sums_of_a_package_name_only_files_that_are_kept() -> None:
    assert packaged()[f"{RECORD[2:]}.md5sums"] == SUMS.encode()
    kept = packaged("usr/lib/tool", "usr/share/doc/**")
    assert kept[f"{RECORD[2:]}.md5sums"] == b"0a  usr/bin/tool\n"
    assert "usr/lib/tool/part" not in kept


def test_record_of_a_package_without_files_is_refused() -> None:
    with pytest.raises(BuildError, match=r"no file of the package is left .* its record var/lib/dpkg/status.d/tool"):
        packaged("usr/bin/tool", "usr/lib/tool")
    gone = packaged("usr/bin/tool", "usr/lib/tool", "var/lib/dpkg/status.d/tool")
    assert not any(path.startswith("var/lib/dpkg/status.d/") for path in gone)
    only = packaged("usr/share/doc/**", sums="0b  usr/share/doc/tool/README\n")
    assert RECORD[2:] in only, "a package of documentation alone is installed all the same"


def test_files_of_a_package_whose_record_is_left_out_are_refused() -> None:
    with pytest.raises(BuildError, match="is left out of the root, but the package's usr/lib/tool/part is not"):
        packaged("usr/bin/tool", "var/lib/dpkg/status.d/tool")


def test_certificates_that_are_bundled_count_as_kept() -> None:
    path = "usr/share/ca-certificates/mozilla/A.crt"
    record = "./var/lib/dpkg/status.d/ca-certificates"
    found = run(
        entry(f"./{path}", "A"), entry(record, "Package: ca-certificates\nVersion: 1\n"),
        entry(f"{record}.md5sums", f"0a  {path}\n"), exclude=("usr/share/ca-certificates",),
    )  # fmt: skip
    assert found[CA_BUNDLE][1] == b"A\n"
    assert found[f"{record[2:]}.md5sums"][1] == b""
