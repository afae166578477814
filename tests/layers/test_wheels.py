"""The files that a wheel installs, and the wheels that are refused."""

import gc
import stat
import sys
import weakref
import zipfile

import pytest
from wheelmaker import DATA, INFO, append, hashed, make_wheel, patch_headers, read_layer

from buildkit.declare.target import Target
from buildkit.errors import CollisionError, WheelError
from buildkit.layers.wheel.install import read_wheel
from buildkit.layers.wheel.layer import layer_of_wheels, wheel_members
from buildkit.layers.wheel.prefix import prefix_members
from buildkit.tools.process import Command, run

TARGET = Target(python="3.13.5", glibc="2.41", arch="x86_64")
SITE = "opt/venv/lib/python3.13/site-packages"


def install(wheel, target=TARGET):
    return read_layer(wheel_members(wheel, target))[0]


def refused(wheel, match):
    with pytest.raises(WheelError, match=match) as caught:
        read_layer(wheel_members(wheel, TARGET))
    assert wheel.name in caught.value.message


def test_every_scheme_goes_where_pip_puts_it(tmp_path):
    files = {
        "demo/__init__.py": b"",
        f"{DATA}/purelib/pure.py": b"1",
        f"{DATA}/platlib/plat.py": b"2",
        f"{DATA}/headers/demo.h": b"3",
        f"{DATA}/data/share/demo.txt": b"4",
        f"{DATA}/data/lib64/libdemo.so": b"5",
        f"{DATA}/scripts/demo.sh": b"#!/bin/sh\n",
    }
    found = install(make_wheel(tmp_path, files))
    assert {path: data for path, (data, _) in found.items() if ".dist-info/" not in path} == {
        f"{SITE}/demo/__init__.py": b"",
        f"{SITE}/pure.py": b"1",
        f"{SITE}/plat.py": b"2",
        "opt/venv/include/site/python3.13/demo-pkg/demo.h": b"3",
        "opt/venv/share/demo.txt": b"4",
        "opt/venv/lib/libdemo.so": b"5",
        "opt/venv/bin/demo.sh": b"#!/bin/sh\n",
    }


def test_record_lists_every_file_sorted_as_by_pip(tmp_path):
    files = {"demo.py": b"x = 1\n", f"{DATA}/data/share/demo.txt": b"4", "b,c.py": b""}
    rows = f'demo.py,sha256={hashed(files["demo.py"])},6\n"b,c.py",,\ngone.py,sha256=x,1\n{INFO}/RECORD,,\n'
    found = install(make_wheel(tmp_path, files, RECORD=rows))
    assert found[f"{SITE}/{INFO}/RECORD"][0].decode().splitlines() == [
        "../../../share/demo.txt,,",
        '"b,c.py",,',
        f"demo.py,sha256={hashed(files['demo.py'])},6",
        f"{INFO}/INSTALLER,sha256={hashed(b'buildkit' + bytes([10]))},9",
        f"{INFO}/METADATA,,",
        f"{INFO}/RECORD,,",
        f"{INFO}/WHEEL,,",
    ]


@pytest.mark.parametrize(("name", "expected"), [("pip", ["pip", "pip3", "pip3.13"]), ("piper", ["pip", "pip3.9"])])
def test_pip_alone_gets_scripts_of_the_targets_version_as_pip_makes_them(tmp_path, name, expected):
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    points = "[console_scripts]\npip = pip.cli:main\npip3.9 = pip.cli:main\n"
    found = install(make_wheel(tmp_path, name=name, METADATA=metadata, **{"entry_points.txt": points}))
    assert sorted(path.removeprefix("opt/venv/bin/") for path in found if "/bin/" in path) == expected
    assert len({found[f"opt/venv/bin/{script}"] for script in expected}) == 1
    record = found[f"{SITE}/{name}-1.0.dist-info/RECORD"][0].decode()
    assert all(f"../../../bin/{script},sha256=" in record for script in expected)


def test_entry_points_become_scripts_of_the_images_interpreter(tmp_path):
    points = (
        "[console_scripts]\ndemo = demo.cli:main\n[gui_scripts]\ndemo-gui = demo.gui:App.run [extra]\n[other]\nx = y\n"
    )
    found = install(make_wheel(tmp_path, {"demo.py": b""}, **{"entry_points.txt": points}))
    assert found["opt/venv/bin/demo"] == (
        (
            b"#!/opt/venv/bin/python\nimport sys\nfrom demo.cli import main\nif __name__ == '__main__':\n"
            b"    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(main())\n"
        ),
        True,
    )
    assert b"from demo.gui import App\n" in found["opt/venv/bin/demo-gui"][0]
    assert b"sys.exit(App.run())" in found["opt/venv/bin/demo-gui"][0]
    assert "opt/venv/bin/x" not in found


def test_entry_point_replaces_a_wrapper_in_the_wheel(tmp_path):
    files = {
        f"{DATA}/scripts/demo": b"#!python\nold\n",
        f"{DATA}/scripts/demo-script.py": b"old",
        f"{DATA}/scripts/demo.exe": b"MZ",
    }
    found = install(make_wheel(tmp_path, files, **{"entry_points.txt": "[console_scripts]\ndemo = demo:main\n"}))
    assert [path for path in found if path.startswith("opt/venv/bin/")] == ["opt/venv/bin/demo"]
    assert b"from demo import main" in found["opt/venv/bin/demo"][0]


def test_only_the_first_line_of_a_python_script_changes_and_every_script_is_executable(tmp_path):
    """As uv installs them: archives made on Windows have no modes."""
    files = {f"{DATA}/scripts/one": b"#!python -u\nrest\n#!python\n", f"{DATA}/scripts/two": b"#!/usr/bin/env python\n"}
    found = install(make_wheel(tmp_path, files, executable={f"{DATA}/scripts/one"}))
    assert found["opt/venv/bin/one"] == (b"#!/opt/venv/bin/python\nrest\n#!python\n", True)
    assert found["opt/venv/bin/two"] == (b"#!/usr/bin/env python\n", True)
    row = f"../../../bin/one,sha256={hashed(found['opt/venv/bin/one'][0])},{len(found['opt/venv/bin/one'][0])}"
    assert row in found[f"{SITE}/{INFO}/RECORD"][0].decode().splitlines()


@pytest.mark.parametrize("prefix", ["/opt/my venv", "/" + "long" * 40])
def test_prefix_too_long_for_a_shebang_runs_through_the_shell(tmp_path, prefix):
    target = Target(python="3.13", glibc="2.41", arch="x86_64", prefix=prefix)
    points = {"entry_points.txt": "[console_scripts]\ndemo = demo:main\n"}
    found = install(make_wheel(tmp_path, {}, **points), target)
    quoted = f'"{prefix}/bin/python"' if " " in prefix else f"{prefix}/bin/python"
    script = found[f"{prefix.lstrip('/')}/bin/demo"][0].decode()
    assert script.startswith(f"#!/bin/sh\n'''exec' {quoted} \"$0\" \"$@\"\n' '''\nimport sys\n")


def test_bytecode_and_installer_file_of_a_wheel_are_not_installed(tmp_path):
    files = {"demo/__pycache__/a.cpython-39.pyc": b"old", f"{INFO}/INSTALLER": b"someone\n"}
    found = install(make_wheel(tmp_path, files))
    assert not any("__pycache__" in path for path in found)
    assert found[f"{SITE}/{INFO}/INSTALLER"][0] == b"buildkit\n"


def test_other_spellings_of_name_and_version_are_accepted(tmp_path):
    wheel = make_wheel(tmp_path, {"demo.py": b""}, METADATA="Metadata-Version: 2.1\nName: Demo.Pkg\nVersion: 1.0.0\n\n")
    assert f"{SITE}/demo.py" in install(wheel)


def test_sha512_in_record_is_verified(tmp_path):
    row = {"demo.py": (f"sha512={hashed(b'right', 'sha512')}", "5")}
    assert f"{SITE}/demo.py" in install(make_wheel(tmp_path, {"demo.py": b"right"}, record=row))
    refused(make_wheel(tmp_path, {"demo.py": b"wrong"}, record=row), "demo.py.*sha512")


HOSTILE_PATHS = [
    "../evil.py", "demo/../../evil.py", "/etc/passwd", "..\\evil.py", "demo\\evil.py", "demo/./x.py", "demo//x.py",
    f"{DATA}/purelib/../../../evil.py", f"{DATA}/scripts/../../evil", f"{DATA}/data/../evil", f"{DATA}/data//etc/x",
    f"{DATA}/unknown/x.py", f"{DATA}/purelib", f"{DATA}/x", DATA, "other-1.0.data/scripts/x", "other.data/data/x",
    f"{DATA}/scripts/python", f"{DATA}/data/bin/python3", f"{DATA}/data/pyvenv.cfg", f"{DATA}/data/lib64",
    "new\nline.py", "n" * 256 + ".py", "../", "other-2.0.dist-info/METADATA",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_a_path_that_leaves_the_prefix_or_tricks_the_rules_is_refused(tmp_path, path):
    wheel = append(make_wheel(tmp_path, {"demo.py": b""}), path, b"evil")
    refused(wheel, "demo_pkg-1.0-py3-none-any.whl")


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644])
def test_a_link_or_device_is_refused(tmp_path, mode):
    refused(append(make_wheel(tmp_path), "demo/link", b"/etc/passwd", mode), "demo/link.*symbolic link")


def test_a_name_that_comes_twice_is_refused(tmp_path):
    wheel = make_wheel(tmp_path, {"demo.py": b"one"})
    with pytest.warns(UserWarning, match="Duplicate name"):
        append(wheel, "demo.py", b"two")
    refused(wheel, "demo.py' comes twice")


@pytest.mark.parametrize("kept", [0, 10, 200, -1, -30, -200])
def test_a_truncated_wheel_is_refused(tmp_path, kept):
    wheel = make_wheel(tmp_path, {"demo.py": b"x" * 5000})
    wheel.write_bytes(wheel.read_bytes()[:kept])
    refused(wheel, "cannot be read as a wheel")


def test_content_cut_out_of_the_middle_is_refused(tmp_path):
    wheel = append(make_wheel(tmp_path), "demo.bin", bytes(range(256)) * 40, method=zipfile.ZIP_STORED)
    data = wheel.read_bytes()
    wheel.write_bytes(data.replace(bytes(range(256)), b"", 3))
    with pytest.raises(WheelError):
        read_layer(wheel_members(wheel, TARGET))


def test_damaged_content_is_refused(tmp_path):
    wheel = append(make_wheel(tmp_path), "demo.bin", b"A" * 500, method=zipfile.ZIP_STORED)
    wheel.write_bytes(wheel.read_bytes().replace(b"A" * 500, b"A" * 499 + b"B"))
    refused(wheel, "demo.bin' is damaged: its CRC")


def test_a_damaged_deflate_stream_is_refused(tmp_path):
    wheel = make_wheel(tmp_path, {"demo.py": b"hello hello hello" * 50})
    with zipfile.ZipFile(wheel) as archive:
        start = archive.getinfo("demo.py").header_offset + 30 + len("demo.py")
    data = bytearray(wheel.read_bytes())
    data[start] = 0x07  # block type 3 does not exist
    wheel.write_bytes(data)
    refused(wheel, "demo.py' is damaged")


@pytest.mark.parametrize("declared", [10, 5000])
def test_a_member_that_inflates_to_another_size_is_refused(tmp_path, declared):
    wheel = make_wheel(tmp_path, {"demo.py": b"x" * 1000}, record={"demo.py": ("", "")})
    refused(patch_headers(wheel, "demo.py", 24, declared.to_bytes(4, "little")), "demo.py' inflates to")


def test_zip_bomb_is_refused_before_full_inflation(tmp_path):
    wheel = make_wheel(tmp_path, {"demo.bin": bytes(64 << 20)}, record={"demo.bin": ("", "")})
    patch_headers(wheel, "demo.bin", 24, (100).to_bytes(4, "little"))
    member = next(m for m in wheel_members(wheel, TARGET) if m.path.endswith("demo.bin"))
    taken = []
    with pytest.raises(WheelError, match="more than the 100 bytes"):
        taken.extend(len(chunk) for chunk in member.content())
    assert sum(taken) <= 100


def test_an_encrypted_member_is_refused(tmp_path):
    wheel = make_wheel(tmp_path, {"demo.py": b"secret"})
    refused(patch_headers(wheel, "demo.py", 8, b"\1\0"), "demo.py' is encrypted")


def test_local_header_that_differs_from_the_directory_is_refused(tmp_path):
    wheel = make_wheel(tmp_path, {"demo.py": b"secret"})
    refused(patch_headers(wheel, "demo.py", 8, b"\1\0", central=False), "demo.py' does not match the archive")


def test_another_compression_than_deflate_is_refused(tmp_path):
    refused(append(make_wheel(tmp_path), "demo.bin", b"x", method=zipfile.ZIP_LZMA), "demo.bin.*deflate")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((f"sha256={hashed(b'other')}", "5"), "has SHA-256"),
        ((f"sha256={hashed(b'right')}", "6"), "RECORD says 6"),
        (("sha256=short", "5"), "malformed hash"),
        (("md5=kAFQmDzST7DWlj99KOF_cg", "5"), "is too weak: md5"),
        (("nonsense", "5"), "nonsense|format"),
    ],
)
def test_record_that_does_not_match_is_refused(tmp_path, row, says):
    refused(make_wheel(tmp_path, {"demo.py": b"right"}, record={"demo.py": row}), says)


def test_script_is_verified_against_record_before_rewriting(tmp_path):
    path = f"{DATA}/scripts/demo"
    row = {path: (f"sha256={hashed(b'other')}", "9")}
    refused(make_wheel(tmp_path, {path: b"#!python\n"}, record=row), "demo' has other bytes")


WRONG_METADATA = [
    {"METADATA": None},
    {"METADATA": "nothing"},
    {"METADATA": "Name: other\nVersion: 1.0\n\n"},
    {"METADATA": "Name: demo-pkg\nVersion: 1.1\n\n"},
    {"WHEEL": None},
    {"WHEEL": "nothing"},
    {"WHEEL": "Wheel-Version: 2.0\nRoot-Is-Purelib: true\n"},
    {"RECORD": None},
    {"RECORD": "one,two\n"},
    {"entry_points.txt": "no section\n"},
    {"entry_points.txt": "[console_scripts]\ndemo = demo\n"},
    {"entry_points.txt": "[console_scripts]\ndemo = demo:%(x)s\n"},
    {"entry_points.txt": "[console_scripts]\ndemo = demo:main; import os\n"},
    {"entry_points.txt": "[console_scripts]\n../demo = demo:main\n"},
    {"entry_points.txt": "[console_scripts]\nbin/demo = demo:main\n"},
    {"entry_points.txt": "[console_scripts]\npython = demo:main\n"},
]


@pytest.mark.parametrize("changes", WRONG_METADATA)
def test_metadata_that_is_missing_or_wrong_is_refused(tmp_path, changes):
    refused(make_wheel(tmp_path, {"demo.py": b""}, **changes), "demo_pkg-1.0-py3-none-any.whl")


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ("[console_scripts]\ndemo = demo\n", "an entry point is not MODULE:FUNCTION"),
        ("no section\n", "File contains no section headers"),
        ("[console_scripts]\na = b:c\na = b:c\n", "already exists"),
    ],
)
def test_malformed_entry_points_are_refused_with_the_reason(tmp_path, points, why):
    wheel = make_wheel(tmp_path, {"demo.py": b""}, **{"entry_points.txt": points})
    refused(wheel, rf"demo_pkg-1\.0-py3-none-any\.whl is malformed: .*{why}")


def test_metadata_that_is_no_text_is_refused(tmp_path):
    wheel = append(make_wheel(tmp_path, METADATA=None), f"{INFO}/METADATA", b"\xff\xfe")
    refused(wheel, "METADATA' is not UTF-8")


@pytest.mark.parametrize(
    "name", ["other-1.0-py3-none-any.whl", "demo_pkg-1.1-py3-none-any.whl", "demo.whl", "demo_pkg-1.0.whl"]
)
def test_a_file_name_that_belongs_to_another_wheel_is_refused(tmp_path, name):
    wheel = make_wheel(tmp_path)
    refused(wheel.rename(tmp_path / name), name.replace(".", r"\."))


def test_two_wheels_with_one_path_collide_by_name(tmp_path):
    one = make_wheel(tmp_path, {"shared/__init__.py": b"one"})
    metadata = "Name: rival\nVersion: 1.0\n\n"
    two = make_wheel(tmp_path, {"shared/__init__.py": b"two"}, name="rival", METADATA=metadata)
    with pytest.raises(CollisionError, match=r"demo_pkg-1\.0-py3-none-any\.whl and rival-1\.0-py3-none-any\.whl"):
        read_layer(layer_of_wheels([two, one], TARGET))
    same = make_wheel(tmp_path, {"shared/__init__.py": b"one"}, name="rival", METADATA=metadata)
    assert read_layer(layer_of_wheels([same, one], TARGET))[0][f"{SITE}/shared/__init__.py"] == (b"one", False)


def test_a_layer_of_wheels_has_one_digest_whatever_the_order_and_folder(tmp_path):
    made = [
        make_wheel(
            tmp_path / folder, {f"{name}.py": name.encode()}, name=name, METADATA=f"Name: {name}\nVersion: 1.0\n\n"
        )
        for folder in ("one", "two")
        for name in ("aaa", "bbb")
    ]
    first = read_layer(layer_of_wheels(made[:2], TARGET))[1]
    second = read_layer(layer_of_wheels(made[:1:-1], TARGET))[1]
    assert first == second
    assert str(first.diff_id) == "sha256:548c0247e8400b0e4e03e859840e7daee4954b0e8d67f2b626b1b93c0480cfac"


def test_the_prefix_is_a_virtual_environment(tmp_path):
    found, packed = read_layer(prefix_members(TARGET))
    links = {path.removeprefix("opt/venv/"): what for path, (what, _) in found.items() if isinstance(what, str)}
    assert links == {
        "bin/python": "/usr/bin/python3",
        "bin/python3": "python",
        "bin/python3.13": "python",
        "lib64": "lib",
    }
    assert b"home = /usr/bin\n" in found["opt/venv/pyvenv.cfg"][0]
    assert b"version = 3.13.5\n" in found["opt/venv/pyvenv.cfg"][0]
    assert str(packed.diff_id) == "sha256:54278ec87cbb0c255cb1b849f7f590147562cb62037a9fc3bdafefd98e2d8970"


@pytest.mark.tools
def test_slow_modules_are_imported_only_for_packing():
    heavy = ("installer", "isal", "zstandard", "packaging")
    probe = (
        "import sys, buildkit.layers.models, buildkit.layers.tar.writer, buildkit.layers.wheel.bytecode\n"
        "import buildkit.layers.wheel.layer\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert run(Command(argv=(sys.executable, "-c", probe))).text == "[]"


def test_what_a_wheel_installs_is_gone_with_its_last_member(tmp_path):
    """Members that led back to their wheel kept tens of thousands of others in memory until the next collection."""
    wheel = make_wheel(tmp_path, {"demo.py": b"x", "other.py": b"y"})
    gc.disable()
    try:
        installed = read_wheel(wheel, TARGET)
        archive = weakref.ref(installed.members[0].content.func.__self__)
        del installed
        assert archive() is None
    finally:
        gc.enable()
