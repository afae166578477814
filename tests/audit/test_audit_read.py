"""Layers of any content are read, or refused with an error."""

import gzip
import io
import tarfile

import pytest

from buildkit.audit.capabilities import format_capabilities
from buildkit.audit.config import parse_config
from buildkit.audit.layer_view import TarEntry
from buildkit.audit.read import ImageLimits
from buildkit.audit.view import format_untrusted
from buildkit.errors import BuildError
from tests.audit.crafted import GOOD, Member, audit, capable, file, folder, ids, link, make_view, tar
from tests.native.elfmaker import make_elf


def test_entries_match_the_tar():
    view = make_view([file("a/b", b"12345", 0o4751, uid=7, gid=8), folder("a", 0o1777), link("l", "../x")])
    assert view.layers[0].entries == (
        TarEntry(path="a/b", mode=0o4751, uid=7, gid=8, size=5, head=b"12345"),
        TarEntry(path="a", kind="folder", mode=0o1777, name=""),
        TarEntry(path="l", kind="symbolic link", mode=0o777, link="../x"),
    )


def test_links_are_resolved_inside_the_image():
    view = make_view([link("a", "b/c"), link("b", "/d"), folder("d"), file("d/c", b"x"), link("up", "../../../d/c")])
    assert view.resolve("/a") == "d/c"
    assert view.find("up") == view.files["d/c"]
    assert view.resolve("/b/../d/c") == "d/c"
    circle = make_view([link("a", "b"), link("b", "a")])
    assert circle.resolve("a") is None
    assert circle.find("a/x") is None


def test_unlisted_parent_folder_is_a_folder():
    view = make_view([file("opt/venv/bin/x", b"x")])
    assert [entry.path for entry in view.below("opt")] == ["opt/venv/bin/x"]


def test_capability_is_read_from_tar_header():
    """The attribute is binary: a header that is read as text must give the same bytes back."""
    (entry,) = make_view([capable("x", 7, 8, 13, 31, 38)]).layers[0].entries
    assert format_capabilities(entry.capability) == "cap_setuid,cap_setpcap,cap_net_raw,cap_setfcap,cap_perfmon=ep"
    assert (
        format_capabilities(bytes.fromhex("0100000300040000000400000000000000000000e8030000"))
        == "cap_net_bind_service=eip"
    )
    assert "cannot be read" in format_capabilities(b"")


def test_native_files_are_checked():
    data = make_elf(needed=("libnowhere.so.1",))
    view = make_view([*GOOD, file("usr/bin/tool", data, 0o755)])
    assert set(view.layers[0].native.files) == {"usr/bin/tool"}
    assert "missing-library" in ids(audit([file("usr/bin/tool", data, 0o755)]))


@pytest.mark.parametrize("cut", [100, 600, 1500])
def test_damaged_layer_raises(cut):
    data = tar([file("a", b"x" * 1000)])
    with pytest.raises(BuildError, match="damaged"):
        make_view(data[:cut])


def test_random_bytes_raise_build_error():
    with pytest.raises(BuildError, match="damaged"):
        make_view(b"noise" * 1000)


def test_number_of_thousands_of_digits_raises():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"size": "9" * 5000}
        archive.addfile(info)
    with pytest.raises(BuildError, match="is damaged: a size is too long"):
        make_view(out.getvalue())


def test_limits_stop_reading():
    members = [file(str(number)) for number in range(50)]
    with pytest.raises(BuildError, match="more than 40 members"):
        make_view(members, limits=ImageLimits(members=40))
    with pytest.raises(BuildError, match="unpacks to more"):
        make_view(members, limits=ImageLimits(unpacked=10_000))


def test_hostile_names_stay_inside_root_and_print_on_one_line():
    view = make_view([file("../../etc/x\ny", b"x"), Member(path="a/" * 3000 + "z"), file("b/../../c", b"x")])
    assert all(not path.startswith("..") for path in view.files)
    elf = file("usr/bin/a\nb", make_elf(needed=("libnowhere.so",)), 0o755)
    assert "missing-library" in ids(audit([elf]))
    assert all((one.path + one.what).isprintable() for one in audit([elf]))
    findings = audit([file("../../etc/x\ny\x1b[2J", b"x" * 10, 0o666)])
    assert findings
    for finding in findings:
        assert (finding.path + finding.what).isprintable()


def test_deep_tree_needs_no_recursion():
    view = make_view([folder("/".join("a" * 2000))])
    assert len(list(view.below("a"))) == 1


def test_untrusted_text_is_escaped_and_cut():
    assert format_untrusted("plain ünï") == "plain ünï"
    assert format_untrusted("a\nb\x1b\u202e") == "a\\nb\\x1b\\u202e"
    assert format_untrusted("x" * 300) == "x" * 200 + "…"


@pytest.mark.parametrize(
    "text",
    [
        '{"config": []}',
        '{"config": {"Env": "A=b", "Cmd": {"a": 1}, "Labels": [1], "User": 5, "ExposedPorts": ["x"]}}',
        '{"config": {"Env": [1, null, "A"], "Healthcheck": {"Test": "x"}}, "history": [1, {"created_by": 3}]}',
        '{"history": {"a": 1}}',
    ],
)
def test_config_values_of_wrong_type_are_ignored(text):
    parse_config(text.encode(), "x")


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_malformed_config_raises(data):
    with pytest.raises(BuildError):
        parse_config(data, "x")


def test_layer_bomb_exceeds_limit(tmp_path):
    from buildkit.layers.tar.decompress import inflate
    from buildkit.layers.tar.member import Compression

    path = tmp_path / "layer"
    path.write_bytes(gzip.compress(tar([file("zeros", bytes(30 << 20))]), 9))
    with pytest.raises(BuildError, match="unpacks to more"):
        make_view(b"".join(inflate(path, Compression.GZIP)), limits=ImageLimits(unpacked=1 << 20))
