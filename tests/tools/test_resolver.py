"""uv and pip-tools as resolvers: their command lines, and locks made by the real ones."""

import sys
from pathlib import Path

import pytest

from buildkit.errors import MissingTool, ToolError
from buildkit.locks.local_package import make_describe_local
from buildkit.locks.requirements_txt import parse_requirements
from buildkit.tools import resolver
from buildkit.tools.index_settings import IndexSettings, PackageSources, uv_environment
from buildkit.tools.process import Command, CommandResult
from buildkit.tools.python_trap import HostBuildError
from buildkit.tools.resolver import ResolveRequest, find_warnings, resolve
from tests.layers.wheelmaker import make_wheel

HERE = "{}.{}".format(*sys.version_info[:2])
PLAIN = {"PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": "", "UV_NO_CONFIG": "1"}


@pytest.fixture
def asked(monkeypatch):
    """The command that would run, and a lock as it would come out."""
    seen: list[Command] = []

    def run(command):
        seen.append(command)
        output = command.argv[command.argv.index("--output-file") + 1]
        with Path(output).open("a") as file:
            file.write(
                f"text-kit @ {command.cwd.as_uri()}/libs/textkit\n-e {command.cwd.as_uri()}/libs/b\n"
                "anyio==4 \\\n    --hash=sha256:00\n    # via\n    #   -c ../../tmp/x/constraints.txt\n    #   httpx\n"
                "# WARNING: pip install will require the following package to be hashed.\n# Consider using a URL.\n"
            )
        return CommandResult(code=0, stdout=b"", stderr=b"")

    monkeypatch.setattr(resolver, "run", run)
    return seen


def options(command):
    return " ".join(command.argv)


def test_uv_resolves_for_every_platform_and_the_targets_python(asked, tmp_path):
    resolve(ResolveRequest(root=tmp_path, inputs=("a.in", "b.in"), python="3.13"))
    command_line = options(asked[0])
    for word in ("--universal", "--python-version 3.13", "--generate-hashes", "--no-header", "a.in b.in"):
        assert word in command_line
    assert command_line.count("--emit") == command_line.count("--emit-build-options") == 1
    assert asked[0].cwd == tmp_path


def test_pip_tools_names_no_index(asked, tmp_path):
    resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python=HERE, locker="pip-tools"))
    for word in ("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--generate-hashes"):
        assert word in asked[0].argv


def test_pip_tools_runs_on_the_targets_python(asked, tmp_path):
    resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python="3.99", locker="pip-tools"))
    assert "--python 3.99 --with pip-tools" in options(asked[0])


def test_full_version_reaches_uv_and_the_minor_version_pip_tools(asked, tmp_path):
    resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python="3.13.5"))
    resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python=f"{HERE}.99", locker="pip-tools"))
    assert "--python-version 3.13.5 " in options(asked[0])
    assert asked[1].argv[0] == sys.executable


def test_missing_pip_tools_names_the_extra_to_install(asked, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingTool, match="pip-tools is not installed") as caught:
        resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python=HERE, locker="pip-tools"))
    assert caught.value.hint == "run: pip install 'xoe-buildkit[pip-tools]'"
    assert asked == []


@pytest.mark.parametrize("name", ["project", "a project, ünd more", "100%"])
def test_lock_contains_no_host_paths(asked, tmp_path, name):
    root = tmp_path / name
    text = resolve(ResolveRequest(root=root, inputs=("a.in",), python="3.13", constraints="anyio==4"))
    assert str(tmp_path) not in text
    assert "./libs/textkit\n-e ./libs/b\n" in text
    assert "constraints" not in text
    assert "WARNING" not in text
    assert "#   httpx" in text


def test_preferred_versions_are_written_to_the_output_file(asked, tmp_path):
    text = resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python="3.13", preferred="old==1\n"))
    assert text.startswith("old==1\n")
    assert "--constraint" not in asked[0].argv


def test_resolver_that_passes_over_a_package_whose_code_was_refused_makes_no_lock(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(resolver.PythonTrap, "find_caught", lambda _: tmp_path / "libs/x")
    with pytest.raises(HostBuildError) as caught:
        resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python="3.13"))
    assert caught.value.tree == str(tmp_path / "libs/x")
    assert resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python="3.13", host_builds=True))


@pytest.mark.tools
@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_no_index_setting_contacts_no_index(tmp_path, locker):
    (tmp_path / "a.in").write_text("alpha\n")
    make_wheel(tmp_path / "links", name="alpha", METADATA="Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n\n")
    sources = PackageSources(
        pip=IndexSettings(no_index=True, find_links=(str(tmp_path / "links"),)), uv=IndexSettings()
    )
    env = {**PLAIN, "UV_DEFAULT_INDEX": "http://127.0.0.1:9/", "PIP_INDEX_URL": "http://127.0.0.1:9/"}
    env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "links"), **uv_environment(sources, "")}
    text = resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python=HERE, locker=locker, env=env))
    assert text.startswith("alpha==1.0 \\\n    --hash=sha256:")


@pytest.mark.tools
@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_lock_says_which_kinds_of_files_its_inputs_allow(tmp_path, locker):
    (tmp_path / "more.in").write_text("--only-binary :all:\nalpha\n")
    (tmp_path / "a.in").write_text("-r more.in\n--no-binary other\n")
    make_wheel(tmp_path / "links", name="alpha", METADATA="Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n\n")
    sources = PackageSources(
        pip=IndexSettings(no_index=True, find_links=(str(tmp_path / "links"),)), uv=IndexSettings()
    )
    env = {**PLAIN, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "links"), **uv_environment(sources, "")}
    text = resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python=HERE, locker=locker, env=env))
    options = [line for line in text.splitlines() if line.startswith("--")]
    assert options == ["--only-binary :all:", "--no-binary other"]  # the other way round, pip would forget the second
    assert [(pin.name, pin.form) for pin in parse_requirements(text, "a.txt")] == [("alpha", "wheel")]


@pytest.fixture
def project(tmp_path):
    package = tmp_path / "libs/textkit"
    (package / "textkit").mkdir(parents=True)
    (package / "textkit/__init__.py").write_text("")
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "textkit"\nversion = "1.2"\ndependencies = ["idna>=3"]\n'
    )
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/a.in").write_text(
        "./libs/textkit\ncolorama ; sys_platform == 'win32'\nantlr4-python3-runtime==4.9.3\nhttpx[http2]==0.28.1\n"
    )
    return tmp_path


@pytest.mark.network
@pytest.mark.tools
@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_locks_of_the_real_resolvers_are_parsed(project, locker):
    request = ResolveRequest(
        root=project, inputs=("requirements/a.in",), python=HERE, locker=locker, preferred="idna==3.6\n", env=PLAIN,
        host_builds=True,
    )  # fmt: skip
    text = resolve(request)
    assert str(project) not in text
    assert "://" not in text
    read = make_describe_local(lambda path: (project / path).read_text() if (project / path).is_file() else None)
    pins = {pin.name: pin for pin in parse_requirements(text, "a.txt", describe_local=read)}
    assert (pins["textkit"].path, pins["textkit"].version) == ("./libs/textkit", "1.2")
    assert pins["h2"].hashes
    assert pins["antlr4-python3-runtime"].hashes
    assert pins["idna"].version == "3.6"  # the preferred one
    if locker == "uv":
        assert pins["colorama"].marker == "sys_platform == 'win32'"
    again = resolve(ResolveRequest(root=project, inputs=("requirements/a.in",), python=HERE, locker=locker,
                               constraints="idna==3.7\n", env=PLAIN, host_builds=True))  # fmt: skip
    assert "idna==3.7" in again
    assert "constraints.txt" not in again


@pytest.mark.network
@pytest.mark.tools
def test_resolver_output_is_kept_in_the_error(project):
    (project / "requirements/a.in").write_text("idna==3.6\nidna==3.7\n")
    with pytest.raises(ToolError, match=r"locking requirements/a\.in") as caught:
        resolve(ResolveRequest(root=project, inputs=("requirements/a.in",), python="3.13", env=PLAIN))
    assert "idna==3.6" in caught.value.output


@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_warnings_of_the_real_resolvers_are_passed_on(tmp_path, locker):
    """An extra that a project lacks means a missing dependency, and the lock succeeds."""
    metadata = "Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\nProvides-Extra: cli\n\n"
    make_wheel(tmp_path / "links", name="alpha", METADATA=metadata)
    (tmp_path / "a.in").write_text("alpha[clii]\n")
    env = {**PLAIN, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "links")}
    env |= {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path / "links")}
    warnings = []
    resolve(ResolveRequest(root=tmp_path, inputs=("a.in",), python=HERE, locker=locker, env=env, warn=warnings.append))
    (warning,) = warnings
    assert "alpha" in warning
    assert "clii" in warning


def test_warnings_about_the_host_are_left_out():
    yanked = 'warning: `a==1` is yanked (reason: "x")\n'
    output = (
        "warning: The requested Python version 3.13 is not available; 3.11.7 will be used\n"
        "Resolved 5 packages in 177ms\n"
        f"{yanked}{yanked}  WARNING: Location 'file:///x/' is ignored: it is neither a file nor a directory.\n"
        "warning: A managed Python download is available\n  cause: dns error\n"
    )
    assert find_warnings(output) == ['`a==1` is yanked (reason: "x")']
