"""Every reason why a file cannot be loaded is reported, and false alarms are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.findings import Severity
from buildkit.native import linker
from buildkit.native.facts import decode_facts, encode_facts
from tests.native.elfmaker import AARCH64, I386, make_elf
from tests.native.native_images import LIB, LINKER, SITE, check, root, rules_of, survey

CV2 = f"{SITE}/cv2/cv2.abi3.so"
MODULE = f"{SITE}/x/_x.cpython-313-x86_64-linux-gnu.so"


def needing(*names: str, **fields: object) -> bytes:
    return make_elf(needed=("libc.so.6", *names), **fields)


def test_complete_image_has_no_findings() -> None:
    assert check(root(), {MODULE: needing()}) == []


def test_missing_library_is_reported_with_file_and_debian_package() -> None:
    (found,) = check(root(), {CV2: needing("libGL.so.1")})
    assert rules_of([found]) == [("missing-library", "HIGH", CV2)]
    assert found.what == "it needs libGL.so.1, which is nowhere in the image; the Debian package libgl1 has it"
    assert found.layer == "1"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("libglib-2.0.so.0", "the Debian package libglib2.0-0t64 has it"),
        ("libgomp.so.1.0.0", "the Debian package libgomp1 has it"),
        ("libweird_name-2.so.7", "Debian's is probably libweird-name-2-7"),
        ("libnumber9.so.7", "Debian's is probably libnumber9-7"),
    ],
)
def test_suggested_package_follows_the_suite_or_debian_policy(name: str, hint: str) -> None:
    (found,) = check(root(), {CV2: needing(name)})
    assert found.what.endswith(hint)


@pytest.mark.parametrize("release", [b"ID=alpine\n", b"ID=fedora\nID_LIKE=rhel\n"])
def test_no_package_is_suggested_for_a_root_that_is_not_debian(release: bytes) -> None:
    (found,) = check(root() | {"usr/lib/os-release": release}, {CV2: needing("libGL.so.1")})
    assert found.what == "it needs libGL.so.1, which is nowhere in the image"


def test_suggested_package_of_an_older_suite() -> None:
    bookworm = root() | {"usr/lib/os-release": b"ID=debian\nVERSION_CODENAME=bookworm\n"}
    (found,) = check(bookworm, {CV2: needing("libglib-2.0.so.0")})
    assert found.what.endswith("the Debian package libglib2.0-0 has it")


def test_name_missing_for_many_files_is_one_finding() -> None:
    files = {f"{SITE}/p/m{number}.abi3.so": needing("libGL.so.1") for number in range(5)}
    (found,) = check(root(), files)
    assert found.what.endswith("(and 4 other files)")


def test_finding_of_a_wheels_library_names_the_module_that_loads_it() -> None:
    files = {
        CV2: needing("libQt5Core.so.5", rpath="$ORIGIN/../cv2.libs"),
        f"{SITE}/cv2.libs/libQt5Core.so.5": needing("libglib-2.0.so.0", soname="libQt5Core.so.5"),
    }
    (found,) = check(root(), files)
    assert found.path == f"{SITE}/cv2.libs/libQt5Core.so.5"
    assert f"(loaded for {CV2})" in found.what


def test_library_loaded_by_name_has_lower_severity() -> None:
    assert rules_of(check(root(), {f"{SITE}/lgb/lib/lib_lgb.so": needing("libgomp.so.1")})) == [
        ("missing-library", "MEDIUM", f"{SITE}/lgb/lib/lib_lgb.so")
    ]


@pytest.mark.parametrize(
    "path",
    [
        "torchcodec/libtorchcodec_core4.so",
        "numba/np/ufunc/tbbpool.cpython-313-x86_64-linux-gnu.so",
        "PyQt5/Qt5/plugins/sqldrivers/libqsqlpsql.so",
    ],
)
def test_optional_variant_may_lack_a_library(path: str) -> None:
    assert rules_of(check(root(), {f"{SITE}/{path}": needing("libavcodec.so.58")})) == [
        ("missing-library", "LOW", f"{SITE}/{path}")
    ]


def test_accelerator_library_may_be_missing_for_a_plugin_but_not_for_a_module() -> None:
    plugin = f"{SITE}/onnx/capi/libprovider_shared.so"
    assert rules_of(check(root(), {plugin: needing("libcublasLt.so.12")})) == [("missing-library", "LOW", plugin)]
    assert rules_of(check(root(), {MODULE: needing("libcublasLt.so.12")})) == [("missing-library", "HIGH", MODULE)]


@pytest.mark.parametrize("name", ["libcuda.so.1", "libnvidia-ml.so.1", "libGLX_nvidia.so.0", "libnvcuvid.so.1"])
def test_missing_gpu_driver_library_is_only_a_note(name: str) -> None:
    assert rules_of(check(root(), {MODULE: needing(name)})) == [("driver-library", "NOTE", MODULE)]


def test_library_of_another_wheel_counts_as_loaded_first() -> None:
    files = {f"{SITE}/tv/_C.so": needing("libc10.so"), f"{SITE}/torch/lib/libc10.so": needing(soname="libc10.so")}
    assert rules_of(check(root(), files)) == [("library-loaded-first", "NOTE", f"{SITE}/tv/_C.so")]


def test_library_outside_the_search_path_has_low_severity() -> None:
    jvm = {"usr/lib/jvm/server/libjvm.so": needing(soname="libjvm.so")}
    assert rules_of(check(root(), jvm, {MODULE: needing("libjvm.so")})) == [("library-off-path", "LOW", MODULE)]


def test_modules_for_another_python_and_debug_symbols_are_skipped() -> None:
    old = f"{SITE}/x/_x.cpython-312-x86_64-linux-gnu.so"
    debug = "usr/lib/debug/.build-id/ab/cd.debug"
    assert check(root(), {old: needing("libnone.so.1"), debug: needing("libnone.so.1")}) == []


def test_program_without_its_dynamic_linker_is_reported() -> None:
    found = check(root(), {"usr/bin/tool": make_elf(needed=("libnone.so.1",), interpreter="/lib/ld-musl-x86_64.so.1")})
    assert rules_of(found) == [
        ("interpreter-missing", "HIGH", "usr/bin/tool"),
        ("missing-library", "HIGH", "usr/bin/tool"),
    ]
    assert "/lib/ld-musl-x86_64.so.1" in found[0].what


def test_programs_are_found_by_the_path_of_the_config() -> None:
    tool = {"opt/tool/bin/run": make_elf(needed=("libnone.so.1",), interpreter=LINKER)}
    assert [one.severity.name for one in check(root(), tool)] == ["MEDIUM"]
    assert [one.severity.name for one in check(root(), tool, PATH="/opt/tool/bin:/usr/bin")] == ["HIGH"]


def test_preloaded_files_are_checked_as_started() -> None:
    library = {"opt/lib/libhook.so": needing("libnone.so.1")}
    assert [one.severity.name for one in check(root(), library)] == ["MEDIUM"]
    assert [one.severity.name for one in check(root(), library, LD_PRELOAD="/opt/lib/libhook.so")] == ["HIGH"]
    preload = {"etc/ld.so.preload": b"/opt/lib/libhook.so\n"}
    assert [one.severity.name for one in check(root(), library, preload)] == ["HIGH"]


def versions(*wanted: str, library: str = "libc.so.6") -> bytes:
    return make_elf(needed=(library,), needs=((library, wanted),))


def test_too_old_libc_is_reported_with_both_versions() -> None:
    (found,) = check(root(), {MODULE: versions("GLIBC_2.34", "GLIBC_2.38", "GLIBC_2.4")})
    assert rules_of([found]) == [("glibc-too-old", "HIGH", MODULE)]
    assert (
        found.what == f"it needs GLIBC_2.38, and libc.so.6 of the image ({LIB}/libc.so.6) has no more than GLIBC_2.36"
    )


def test_too_old_libstdcxx_is_reported_with_both_versions() -> None:
    standard = make_elf(soname="libstdc++.so.6", defines=("GLIBCXX_3.4", "GLIBCXX_3.4.30"))
    image = root(**{"libstdc++.so.6": standard})
    (found,) = check(image, {MODULE: versions("GLIBCXX_3.4.32", library="libstdc++.so.6")})
    assert "has no more than GLIBCXX_3.4.30" in found.what
    assert check(image, {MODULE: versions("GLIBCXX_3.4.30", library="libstdc++.so.6")}) == []


def test_library_without_the_required_symbol_version_is_reported() -> None:
    image = root(**{"libssl.so.3": make_elf(soname="libssl.so.3", defines=("OPENSSL_3.0.0",))})
    (found,) = check(image, {MODULE: versions("OPENSSL_3.4.0", library="libssl.so.3")})
    assert rules_of([found]) == [("symbol-version-missing", "HIGH", MODULE)]
    plain = root(**{"libssl.so.3": make_elf(soname="libssl.so.3")})
    assert check(plain, {MODULE: versions("OPENSSL_3.4.0", library="libssl.so.3")}) == [], "as the linker: no versions"


def test_wheel_for_another_machine_is_an_error_and_a_helper_only_a_note() -> None:
    tagged, helper = f"{SITE}/y/_y.abi3.so", f"{SITE}/pydevd/attach_linux_x86.so"
    found = check(root(), {tagged: make_elf(machine=AARCH64), helper: make_elf(machine=I386, bits=32)})
    assert rules_of(found) == [("wrong-machine", "HIGH", tagged), ("wrong-machine", "NOTE", helper)]
    assert [one.path for one in check(root(), {tagged: make_elf()}, arch="arm64") if one.path == tagged] == [tagged]


def test_library_for_another_machine_does_not_satisfy_a_need() -> None:
    (found,) = [one for one in check(root(**{"libx.so.1": make_elf(machine=AARCH64)}), {MODULE: needing("libx.so.1")})
                if one.path == MODULE]  # fmt: skip
    assert found.rule.id == "missing-library"


def test_glibc_wheel_in_a_musl_image_is_reported() -> None:
    musl = {
        "lib/ld-musl-x86_64.so.1": make_elf(soname="libc.musl-x86_64.so.1"),
        "lib/libc.musl-x86_64.so.1": "ld-musl-x86_64.so.1",
        "etc/os-release": b"ID=alpine\n",
    }
    assert rules_of(check(musl, {MODULE: versions("GLIBC_2.17")})) == [("wrong-libc", "HIGH", MODULE)]
    assert check(musl, {MODULE: make_elf(needed=("libc.musl-x86_64.so.1", "libpthread.so.0"))}) == []


def test_damaged_file_is_a_note_and_still_found_by_others() -> None:
    broken = make_elf(soname="libx.so.1")[:90]
    found = check(root(**{"libx.so.1": broken}), {MODULE: needing("libx.so.1")})
    assert rules_of(found) == [("native-unreadable", "NOTE", f"{LIB}/libx.so.1")]


def test_library_removed_by_a_whiteout_is_missing() -> None:
    image = root(**{"libx.so.1": make_elf(soname="libx.so.1")})
    assert check(image, {MODULE: needing("libx.so.1")}) == []
    assert [one.path for one in check(image, {MODULE: needing("libx.so.1"), f"{LIB}/libx.so.1": None})] == [MODULE]


def test_check_stops_at_the_step_limit_with_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linker, "_STEPS", 1000)
    files = {f"{SITE}/p/m{number}.abi3.so": needing("libGL.so.1") for number in range(300)}
    assert "native-unfinished" in [one.rule.id for one in check(root(), files)]


def test_image_without_native_files_has_no_findings() -> None:
    assert check({}) == []


def test_facts_survive_encoding() -> None:
    facts = survey(root() | {MODULE: versions("GLIBC_2.34"), "broken": make_elf()[:90], "opt/x": None})
    assert facts.files
    assert facts.unread
    assert facts.gone == ("opt/x",)
    assert decode_facts(encode_facts(facts)) == facts


@pytest.mark.parametrize("data", [b"", b"nonsense", encode_facts(survey(root()))[:-9]])
def test_damaged_facts_decode_to_none(data: bytes) -> None:
    assert decode_facts(data) is None


NAMES = st.sampled_from(
    ("liba.so", "libb.so.1", "libcuda.so.1", "libc.so.6", "/lib/liba.so", "../liba.so", "", "l\n.so")
)
FOLDERS = st.sampled_from(("lib", "usr/lib", "opt", f"{SITE}/x", f"{SITE}/x.libs", "usr/bin", "a", "a/b"))
PATHS = st.tuples(FOLDERS, NAMES).map(lambda parts: "/".join(part.strip("./") for part in parts).strip("/"))
WAYS = st.sampled_from(("$ORIGIN", "$ORIGIN/../x.libs:/a/b", "/a:relative", "$LIB:${LIB}/x", "/usr/../../lib", ""))
ELVES = st.builds(
    lambda needed, soname, way, run, versions: make_elf(
        needed=needed,
        soname=soname,
        needs=[(name, ("GLIBC_2.99", "X_1", "odd")) for name in needed[:versions]],
        defines=("GLIBC_2.17", "GLIBC_2.x")[:versions],
        **{"runpath" if run else "rpath": way},
    ),
    st.lists(NAMES, max_size=4),
    NAMES,
    WAYS,
    st.booleans(),
    st.integers(0, 2),
)
CONTENT = st.one_of(
    ELVES, ELVES.map(lambda data: data[:120]), st.none(), PATHS, st.sampled_from(("/", "..", "a", "/a/b"))
)
LAYERS = st.dictionaries(PATHS | st.sampled_from(("a", "opt", "lib")), CONTENT, max_size=8)


@given(st.lists(LAYERS, min_size=1, max_size=3), st.booleans())
def test_check_ends_for_any_image(layers: list[dict[str, bytes | str | None]], based: bool) -> None:
    found = check(
        *([root()] if based else []), *layers, LD_LIBRARY_PATH="/a:$ORIGIN", PATH="/usr/bin:a:/opt", LD_PRELOAD="/a"
    )
    assert [one.severity for one in found] == sorted((one.severity for one in found), reverse=True)
    assert len({(one.rule.id, one.path, one.what) for one in found}) == len(found)
    assert all(isinstance(one.severity, Severity) and one.what for one in found)


def test_free_threaded_python_module_is_recognised() -> None:
    path = "opt/venv/lib/python3.13t/site-packages/x/_x.cpython-313t-x86_64-linux-gnu.so"
    assert rules_of(check(root(), {path: needing("libnone.so.1")})) == [("missing-library", "HIGH", path)]
