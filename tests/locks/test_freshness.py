"""Whether a lock is stale is decided by content."""

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash, canonical_json
from buildkit.locks.freshness import (
    apt_inputs,
    check_fresh,
    find_inputs,
    models_inputs,
    render_header,
    requirements_inputs,
    wheels_inputs,
)
from buildkit.locks.requirement_inputs import collect_inputs, find_places, normalise_text

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
FILES = {
    "requirements/api.in": "fastapi>=1  # web\n\n-r common.in\n-c limits.in\n./libs/textkit\n",
    "requirements/common.in": "idna\n",
    "requirements/limits.in": "idna<4\n",
    "libs/textkit/pyproject.toml": '[project]\nname = "textkit"\n',
}


def inputs(target=TARGET, locker="uv", **changed):
    files = {**FILES, **{name.replace("__", "/").replace("_dot_", "."): text for name, text in changed.items()}}
    return requirements_inputs("requirements/api.in", files.get, target, locker=locker)


def test_comments_and_blank_lines_do_not_change_the_hash():
    assert (
        inputs(requirements__api_dot_in="# hello\nfastapi>=1\n-r common.in\n-c limits.in\n./libs/textkit") == inputs()
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"requirements__api_dot_in": "fastapi>=2\n-r common.in\n-c limits.in\n./libs/textkit"},
        {"requirements__common_dot_in": "idna>=3"},
        {"requirements__limits_dot_in": "idna<3"},
        {"libs__textkit__pyproject_dot_toml": '[project]\nname = "textkit"\ndependencies = ["idna"]\n'},
        {"locker": "pip-tools"},
        {"target": Target(python="3.12", glibc="2.41", arch="x86_64")},
    ],
)
def test_every_input_of_the_resolution_changes_the_hash(changed):
    assert inputs(**changed) != inputs()


def names(files, locker="uv"):
    return [name for name, _ in collect_inputs("app.in", files.get, locker)]


@pytest.mark.parametrize(
    "line",
    [
        "-r 'my common.in'",
        '-r "my common.in"',
        "--requirement='my common.in'",
        "-c my\\ common.in",
        "-r'my common.in'",
        "-rmy\\ common.in",
        "-cmy\\ common.in",
        "-r= 'my common.in'",
        "--constraint= 'my common.in'",
    ],
)
def test_included_file_may_have_any_name(line):
    assert names({"app.in": line, "my common.in": "lib<2"}) == ["app.in", "my common.in"]


def test_line_that_no_resolver_can_split_includes_nothing():
    assert names({"app.in": "-r 'common.in\n"}) == ["app.in"]


PACKAGE = '[project]\nname = "x"\ndynamic = ["dependencies"]\n'


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ("pyproject.toml", f'{PACKAGE}[tool.setuptools.dynamic]\ndependencies = {{ file = ["needs.txt"] }}\n'),
        ("pyproject.toml", f'{PACKAGE}[tool.hatch.metadata.hooks.requirements_txt]\nfiles = ["needs.txt"]\n'),
        ("setup.cfg", "[options]\ninstall_requires = file: needs.txt\n"),
        ("setup.py", "setup(install_requires=open('needs.txt').read().split())"),
    ],
)
def test_files_of_dynamic_fields_are_inputs(metadata, text):
    files = {"app.in": "./libs/x", f"libs/x/{metadata}": text, "libs/x/needs.txt": "a", "libs/x/README.md": "r"}
    assert names(files) == ["app.in", f"libs/x/{metadata}", "libs/x/needs.txt"]


@pytest.mark.parametrize("module", ["x/version.py", "x/version/__init__.py", "src/x/version.py"])
@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ("pyproject.toml", f'{PACKAGE}[tool.setuptools.dynamic]\nversion = {{ attr = "x.version.NUMBER" }}\n'),
        ("setup.cfg", "[metadata]\nversion = attr: x.version.NUMBER\n"),
    ],
)
def test_modules_that_hold_a_version_are_inputs(metadata, text, module):
    files = {"app.in": "./libs/x", f"libs/x/{metadata}": text, f"libs/x/{module}": "NUMBER = 1"}
    assert names(files) == ["app.in", f"libs/x/{metadata}", f"libs/x/{module}"]


def test_static_metadata_reads_no_other_file():
    text = '[project]\nname = "x"\nreadme = "README.md"\n[tool.hatch.version]\npath = "x.py"\n'
    files = {"app.in": "./libs/x", "libs/x/pyproject.toml": text, "libs/x/x.py": "", "libs/x/README.md": ""}
    assert names(files) == ["app.in", "libs/x/pyproject.toml"]


def test_packages_that_sources_name_by_path_are_inputs():
    files = {
        "app.in": "./libs/tk",
        "libs/tk/pyproject.toml": '[tool.uv.sources]\ncore = { path = "../core" }\ndeep = [{ path = "deep" }, 3]\n',
        "libs/core/pyproject.toml": '[tool.uv.sources]\ntk = { path = "../tk" }\n',
        "libs/tk/deep/setup.py": "",
        "core/pyproject.toml": "another one",
        "pyproject.toml": '[tool.uv.sources]\nown = { path = "libs/own" }\n',
        "libs/own/setup.cfg": "",
    }
    assert names(files) == [
        "app.in", "libs/tk/pyproject.toml", "libs/core/pyproject.toml", "libs/tk/deep/setup.py", "pyproject.toml uv",
        "libs/own/setup.cfg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("locker", "file", "text", "name"),
    [
        ("uv", "pyproject.toml", '[tool.uv]\nconstraint-dependencies = ["lib<2"]\n', "pyproject.toml uv"),
        ("uv", "pyproject.toml", '[tool.uv.sources]\nlib = { index = "x" }\n', "pyproject.toml uv"),
        ("uv", "pyproject.toml", '[[tool.uv.index]]\nurl = "https://x"\n', "pyproject.toml uv"),
        ("uv", "uv.toml", 'override-dependencies = ["lib<2"]\n', "uv.toml"),
        ("uv", "uv.toml", "exclude-newer = 2026-01-01\n", "uv.toml"),
        ("pip-tools", "pyproject.toml", "[tool.pip-tools]\npre = true\n", "pyproject.toml pip-tools"),
        ("pip-tools", ".pip-tools.toml", "pre = true\n", ".pip-tools.toml"),
    ],
)
def test_settings_of_the_resolver_are_inputs_of_its_locks(locker, file, text, name):
    files = {"app.in": "lib", file: text}
    assert names(files, locker) == ["app.in", name]
    assert names(files, {"uv": "pip-tools", "pip-tools": "uv"}[locker]) == ["app.in"]


@pytest.mark.parametrize("text", ["[ tool . uv ]\npip = {}\n", "[tool]\nuv = {pip = {}}\n", '[tool."uv"]\npip = {}\n'])
def test_settings_are_found_however_toml_writes_them(text):
    assert names({"app.in": "lib", "pyproject.toml": text}) == ["app.in", "pyproject.toml uv"]


@pytest.mark.parametrize("text", ["tool = 1", "[tool]\nuv = 1", "[tool.uv]\nsources = 1", "project = 1\n# tool.uv"])
def test_values_where_tables_belong_name_no_file(text):
    package = "libs/x/pyproject.toml"
    assert names({"app.in": "./libs/x", package: text, "pyproject.toml": text})[:2] == ["app.in", package]


def test_other_settings_change_no_hash():
    files = {"app.in": "lib"}
    more = {**files, "pyproject.toml": '[project]\nname = "x"\n[tool.other]\nuv = 1\n[tool.uv]\n'}
    assert collect_inputs("app.in", files.get, "uv") == collect_inputs("app.in", more.get, "uv")


def test_circular_includes_terminate():
    files = {"a.in": "-r b.in\nx", "b.in": "-r a.in\ny"}
    assert requirements_inputs("a.in", files.get, TARGET, locker="uv")


def test_wheels_hash_depends_on_pins_and_the_whole_target():
    base = wheels_inputs("a==1 \\\n    --hash=x\n    # via b\n", TARGET)
    assert wheels_inputs("# new\na==1 \\\n  --hash=x\n", TARGET) == base
    assert wheels_inputs("a==2 \\\n    --hash=x\n", TARGET) != base
    assert wheels_inputs("a==1 --hash=x\n", Target(python="3.13", glibc="2.36", arch="x86_64")) != base
    assert wheels_inputs("a==1 --hash=x\n", Target(python="3.13", glibc="2.41", arch="aarch64")) != base


def test_apt_and_models_hashes_depend_on_their_inputs():
    assert apt_inputs("a # x\nb\n", suite="trixie") == apt_inputs("a\nb", suite="trixie")
    assert apt_inputs("a", suite="trixie") != apt_inputs("a", suite="bookworm")
    assert apt_inputs("a", base="x=1", suite="trixie") != apt_inputs("a", base="x=2", suite="trixie")
    assert models_inputs("a = 1  # x\n") == models_inputs("a = 1\n")
    assert models_inputs("a = 1") != models_inputs("a = 2")


def test_header_decides_whether_a_lock_is_fresh():
    one, two = FileHash.of(b"1"), FileHash.of(b"2")
    lock = render_header(one) + "a==1\n"
    assert find_inputs(lock) == one
    assert check_fresh("x.txt", lock, one) is None
    assert "older than its input" in check_fresh("x.txt", lock, two).what
    assert "missing" in check_fresh("x.txt", None, one).what
    assert "nox -s lock" in check_fresh("x.txt", "a==1\n", one).hint


def test_hash_sign_inside_a_word_starts_no_comment():
    assert normalise_text("x @ https://h/f#sha256=1  # why\n") == "x @ https://h/f#sha256=1"


@pytest.mark.parametrize("line", ["--no-binary six", "--only-binary=:all:"])
def test_locks_that_do_not_say_which_files_are_allowed_are_stale(line):
    parts = [("requirements/api.in", f"{line}\nsix")]
    words = {"kind": "requirements", "parts": parts, "settings": {"python": TARGET.minor, "locker": "uv"}}
    before = FileHash.of(canonical_json(words).encode())
    files = {"requirements/api.in": f"{line}\nsix\n"}
    assert requirements_inputs("requirements/api.in", files.get, TARGET, locker="uv") != before


def test_another_full_version_makes_a_lock_stale():
    exact = Target(python="3.13.5", glibc="2.41", arch="x86_64")
    assert len({inputs(), inputs(exact), inputs(Target(python="3.13.6", glibc="2.41", arch="x86_64"))}) == 3


def test_locks_with_paths_that_packages_say_of_themselves_are_stale():
    files = {"app.in": "./libs/tk\n", "libs/tk/pyproject.toml": '[tool.uv.sources]\ncore = { path = "../core" }\n'}
    words = {"kind": "requirements", "parts": collect_inputs("app.in", files.get, "uv")}
    before = FileHash.of(canonical_json({**words, "settings": {"python": "3.13", "locker": "uv"}}).encode())
    assert requirements_inputs("app.in", files.get, TARGET, locker="uv") != before
    files["libs/tk/pyproject.toml"] = '[tool.uv.sources]\ncore = { index = "own" }\n'
    words["parts"] = collect_inputs("app.in", files.get, "uv")
    before = FileHash.of(canonical_json({**words, "settings": {"python": "3.13", "locker": "uv"}}).encode())
    assert requirements_inputs("app.in", files.get, TARGET, locker="uv") == before


def test_places_are_relative_to_the_file_that_names_them():
    files = {
        "app.in": "./libs/tk\n-r more.in\n",
        "more.in": "-e ./core\n",
        "libs/tk/pyproject.toml": '[tool.uv.sources]\na = { path = "../core/" }\nb = [{ path = "sub/b" }]\n',
        "libs/tk/sub/b/pyproject.toml": '[tool.uv.sources]\nc = { path = "./core" }\n',
    }
    assert find_places("app.in", files.get) == {
        "./libs/tk": {"libs/tk"},
        "./core": {"core", "libs/tk/sub/b/core"},
        "../core/": {"libs/core"},
        "sub/b": {"libs/tk/sub/b"},
    }


@pytest.mark.parametrize(
    ("lock", "release", "words"),
    [
        ("# buildkit python 3.13.5\n", "3.13.5", ""),
        ("# buildkit python 3.13.5\n", "3.13.7", "is for Python 3.13.5, and the images have 3.13.7"),
        ("# buildkit python 3.13.5\n", "", "is for Python 3.13.5, which not all images that use it are known to have"),
        ("# buildkit python 3.13.5\n", None, ""),
        ("a==1 ; python_full_version < '3.14'\n# python_full_version >= '3.13.2'\n", "3.13.5", ""),  # an earlier lock
        ("a==1 ; python_full_version >= '3.13.2'\n", "", ""),
        ("a==1 ; python_full_version >= '3.13.2'\n", "3.13.5", "does not name the release"),
        ("a==1 ; implementation_version > '3.13'\n", "3.13.5", "does not name the release"),
    ],
)
def test_locks_for_another_release_of_python_are_stale(lock, release, words):
    one = FileHash.of(b"1")
    problem = check_fresh("x.txt", render_header(one) + lock, one, release)
    assert words in problem.what if words else problem is None


def test_wheels_follow_the_release_that_the_requirements_lock_names():
    for_release = render_header(FileHash.of(b"1"), "3.13.5") + "a==1\n"
    assert wheels_inputs(for_release, TARGET) != wheels_inputs("a==1\n", TARGET)
    assert wheels_inputs(for_release, TARGET) != wheels_inputs(for_release.replace("3.13.5", "3.13.7"), TARGET)


@pytest.fixture
def workspace():
    return {
        "requirements/app.in": "./libs/tk\n",
        "requirements/app.txt": "-e ./libs/core\n    # via tk\n./libs/tk\n",
        "pyproject.toml": "",
        "libs/pyproject.toml": '[tool.uv.workspace]\nmembers = ["*"]\n',
        "libs/tk/pyproject.toml": '[project]\nname = "tk"\n[tool.uv.sources]\ncore = { workspace = true }\n',
        "libs/core/pyproject.toml": '[project]\nname = "core"\n',
    }


@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("libs/core/pyproject.toml", 'dependencies = ["idna"]\n'),
        ("libs/pyproject.toml", '[tool.uv.sources]\nidna = { path = "idna" }\n'),
    ],
)
def test_members_and_settings_of_a_workspace_are_inputs(workspace, file, more):
    before = requirements_inputs("requirements/app.in", workspace.get, TARGET, locker="uv")
    changed = {**workspace, file: workspace[file] + more}
    assert requirements_inputs("requirements/app.in", changed.get, TARGET, locker="uv") != before
    # without a source in a workspace, neither is read
    package = workspace["libs/tk/pyproject.toml"].replace("workspace = true", 'index = "own"')
    one, other = ({**files, "libs/tk/pyproject.toml": package} for files in (workspace, changed))
    assert requirements_inputs("requirements/app.in", one.get, TARGET, locker="uv") == requirements_inputs(
        "requirements/app.in", other.get, TARGET, locker="uv"
    )


def test_inputs_whose_projects_have_a_source_make_earlier_locks_stale():
    files = {"app.in": "torch\n", "pyproject.toml": '[tool.uv.sources]\ntorch = { index = "cpu" }\n'}
    words = {"kind": "requirements", "parts": collect_inputs("app.in", files.get, "uv")}
    before = FileHash.of(canonical_json({**words, "settings": {"python": "3.13", "locker": "uv"}}).encode())
    assert requirements_inputs("app.in", files.get, TARGET, locker="uv") != before
