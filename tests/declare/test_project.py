"""Settings of a project: defaults, all problems at once, labels, names."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.declare.project import load_project, parse_project
from buildkit.declare.target import Target
from buildkit.errors import DefinitionError


def problems_of(text: str) -> dict[str, str]:
    with pytest.raises(DefinitionError) as caught:
        parse_project(text, Path("/x"))
    assert {problem.file for problem in caught.value.problems} == {"pyproject.toml"}
    return {problem.key: problem.what for problem in caught.value.problems}


def test_project_without_settings_uses_defaults(tmp_path: Path) -> None:
    folder = tmp_path / "My  Çool_Project"
    folder.mkdir()
    project = load_project(folder)
    assert project.name == "my-ool-project"
    assert project.target.python == "3.13"
    assert project.target.interpreter == "/usr/bin/python3.13"
    assert (project.locker, project.heavy, project.bins, project.max_layers) == ("uv", 1 << 20, 8, 64)
    assert project.ref("runtime") == "localhost/my-ool-project/runtime:latest"
    assert project.labels == ()


def test_every_setting_is_read() -> None:
    text = """
    [tool.buildkit]
    name = "n"
    locker = "pip-tools"
    python = "3.12.4"
    glibc = "2.36"
    arch = "aarch64"
    prefix = "/srv/env"
    bytecode = false
    bytecode-root = "small"
    builder = "make"
    heavy = 5
    bins = 2
    max-layers = 99
    labels = { b = "2", a = "1" }
    """
    project = parse_project(text, Path("/x"))
    assert project.target == Target(
        python="3.12.4", glibc="2.36", arch="aarch64", prefix="/srv/env", interpreter="/usr/bin/python3.12"
    )
    assert (project.name, project.locker, project.bytecode) == ("n", "pip-tools", False)
    assert (project.bytecode_root, project.builder) == ("small", "make")
    assert (project.heavy, project.bins, project.max_layers) == (5, 2, 99)
    assert project.labels == (("a", "1"), ("b", "2"))


def test_labels_come_from_project_metadata_and_settings_override_them() -> None:
    text = """
    [project]
    name = "N.ame"
    version = "1.2"
    license = "MIT"
    urls = { Homepage = "https://h", Repository = "https://r", Documentation = "https://d" }
    [tool.buildkit.labels]
    "org.opencontainers.image.version" = "9"
    vendor = "us"
    """
    project = parse_project(text, Path("/x"))
    assert project.name == "n-ame"
    assert dict(project.labels) == {
        "org.opencontainers.image.version": "9",
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.source": "https://r",
        "org.opencontainers.image.url": "https://h",
        "org.opencontainers.image.documentation": "https://d",
        "vendor": "us",
    }


def test_every_problem_is_reported_at_once() -> None:
    text = """
    [tool.buildkit]
    nam = "x"
    name = "Upper"
    python = 3.13
    glibc = "two"
    arch = "x86"
    prefix = "/usr/../bin/x"
    bins = 0
    labels = { " " = "x" }
    """
    assert problems_of(text) == {
        "tool.buildkit.nam": "is an unknown key",
        "tool.buildkit.name": "`Upper` is not an image name",
        "tool.buildkit.python": "must be a string, not a float",
        "tool.buildkit.glibc": "`two` is not a version (2.41)",
        "tool.buildkit.arch": "`x86` is none of x86_64, aarch64",
        "tool.buildkit.prefix": "`/usr/../bin/x` is below /bin",
        "tool.buildkit.bins": "0 is not between 1 and 64",
        "tool.buildkit.labels. ": "is not a usable name",
    }


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("amd64", "write `x86_64`"),
        ("linux/arm64", "write `aarch64`"),
        ("aarch46", "did you mean `aarch64`?"),
        ("x", ""),
    ],
)
def test_processor_by_another_name_is_told_its_own(name: str, hint: str) -> None:
    for value in (f"'{name}'", f"['{name}']"):
        with pytest.raises(DefinitionError) as caught:
            parse_project(f"tool.buildkit.arch = {value}", Path("/x"))
        assert caught.value.problems[0].hint == hint


@pytest.mark.parametrize(
    "text",
    [
        "tool = 1",
        "project = 1",
        "[project]\nurls = 3\nname = 4\nlicense = { text = 'x' }\nversion = 1",
        "[project]\ndynamic = ['version']",
    ],
)
def test_invalid_tables_of_other_tools_are_ignored(text: str) -> None:
    assert parse_project(text, Path("/x")).labels == ()


def test_settings_that_are_not_a_table_are_refused() -> None:
    assert problems_of("tool.buildkit = 3") == {"tool.buildkit": "must be a table, not a whole number"}


def test_host_with_unsupported_processor_must_set_arch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert problems_of("") == {
        "tool.buildkit.arch": "this host is `riscv64`, and images are made for x86_64 or aarch64"
    }
    assert parse_project("tool.buildkit.arch = 'aarch64'", Path("/x")).target.deb_arch == "arm64"


@pytest.mark.parametrize("data", [b"\xff", b"x ="])
def test_unreadable_file_is_named_in_the_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(data)
    with pytest.raises(DefinitionError, match=r"^pyproject\.toml: (not UTF-8|is not TOML)"):
        load_project(tmp_path)


@pytest.mark.parametrize(
    "source", ['{ x = "file:/etc/shadow" }', '{ x = "env:AWS_SECRET" }', '{ x = "command:id" }', "1"]
)
def test_repository_that_says_where_secrets_are_is_refused_with_what_to_do_instead(source: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_project(f"[tool.buildkit]\nsecrets = {source}\n", Path("/x"))
    assert "`tool.buildkit.secrets`: a repository must not say where secrets are" in str(caught.value)
    assert "--secret id=NAME,src=FILE" in str(caught.value.hint)
    assert "shadow" not in str(caught.value)


BOTH = "tool.buildkit.arch = ['x86_64', 'aarch64']"


@pytest.mark.parametrize(
    ("host", "text", "ref"),
    [
        ("x86_64", BOTH, "localhost/x/app:latest"),
        ("aarch64", BOTH, "localhost/x/app:latest"),
        ("riscv64", BOTH, "localhost/x/app:latest"),
        ("x86_64", "tool.buildkit.arch = 'aarch64'", "localhost/x/app:latest"),
        ("x86_64", "", "localhost/x/app:latest"),
    ],
)
def test_image_that_this_machine_runs_or_the_only_one_is_latest(
    host: str, text: str, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: host)
    assert parse_project(text, Path("/x")).ref("app") == ref


def test_image_of_another_processor_never_has_the_name_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    first, second = parse_project(BOTH, Path("/x")).of_each_arch()
    assert (first.target.arch, first.target.lock_arch, first.ref("app")) == ("x86_64", "", "localhost/x/app:latest")
    assert (second.target.arch, second.target.lock_arch) == ("aarch64", "aarch64")
    assert second.ref("app") == "localhost/x/app:latest-aarch64"
    assert second.of_arch("x86_64") == first


def test_processor_that_the_project_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(DefinitionError) as caught:
        parse_project("", Path("/x")).of_arch("aarch64")
    assert caught.value.message == "no image is for `aarch64`: the project has x86_64"
    assert caught.value.hint == 'set arch = ["x86_64", "aarch64"] in [tool.buildkit], then run: nox -s lock'


def test_processors_are_different_and_pip_tools_resolves_for_one() -> None:
    assert problems_of("tool.buildkit.arch = ['x86_64', 'x86_64']") == {"tool.buildkit.arch": "names a processor twice"}
    both = f"{BOTH}\ntool.buildkit.locker = 'pip-tools'"
    assert problems_of(both) == {
        "tool.buildkit.arch": "names several processors, and pip-tools resolves for that of the machine it runs on"
    }
    assert problems_of("tool.buildkit.arch = []") == {"tool.buildkit.arch": "needs at least 1 item"}


def test_standalone_interpreter_sees_no_packages_of_the_root() -> None:
    text = '[tool.buildkit]\nsite-packages = "system"\n'
    assert parse_project(text, Path("/x")).target.sees_system
    found = problems_of(text + 'interpreter = "standalone"\n')
    assert found == {"tool.buildkit.site-packages": "`system` has no effect"}


def test_environment_is_not_in_the_folder_of_the_standalone_interpreter() -> None:
    text = '[tool.buildkit]\nprefix = "/opt/python/"\n'
    assert parse_project(text, Path("/x")).target.prefix == "/opt/python/"
    found = problems_of(text + 'interpreter = "standalone"\n')
    assert found == {"tool.buildkit.prefix": "`/opt/python` is the folder of the standalone interpreter"}
