"""ci/bootstrap, run for real in a tiny project that needs no network and no apt."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "tiny"
version = "1"

[project.optional-dependencies]
gpu = []
pip-tools = []
"""

# An editable install (PEP 660) without a download: the wheel holds one script, `nox`.
BACKEND = """\
import time, zipfile
from pathlib import Path

METADATA = (
    "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n"
    "Provides-Extra: gpu\\nProvides-Extra: pip-tools\\n"
)

def get_requires_for_build_editable(config_settings=None):
    return []

def prepare_metadata_for_build_editable(folder, config_settings=None):
    info = Path(folder, "tiny-1.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    return info.name

def build_editable(folder, config_settings=None, metadata_directory=None):
    Path("installs").open("a").write("one\\n")
    while Path("stuck").exists():
        time.sleep(0.05)
    if Path("broken").exists():
        raise RuntimeError("this build is meant to fail")
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder, name), "w") as wheel:
        script = zipfile.ZipInfo("tiny-1.data/scripts/nox")
        script.external_attr = 0o100755 << 16
        wheel.writestr(script, "#!python\\nimport sys\\nprint('nox', *sys.argv[1:])\\n")
        for program in Path().glob("xoe-buildkit"):
            told = zipfile.ZipInfo("tiny-1.data/scripts/xoe-buildkit")
            told.external_attr = 0o100755 << 16
            wheel.writestr(told, program.read_text())
        wheel.writestr("tiny-1.dist-info/METADATA", METADATA)
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return name
"""

PACKAGES = """\
# group  when  package    probe                        why
always   -     coreutils  cmd:definitely-not-here|cmd:env  proves that one of several probes is enough
"""


class Project:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.home = folder / "home"
        (self.root / "ci").mkdir(parents=True)
        self.home.mkdir()
        shutil.copy(ROOT / "ci/bootstrap", self.root / "ci/bootstrap")
        self.write("ci/packages.txt", PACKAGES)
        self.write("pyproject.toml", PYPROJECT)
        self.write("backend.py", BACKEND)
        self.env = {"HOME": str(self.home), "PATH": f"{folder}/bin:/usr/bin:/bin", "PIP_NO_INPUT": "1"}
        # A `nox` on PATH, so that nothing is linked into the real /usr/local/bin when the tests run as root.
        self.tool("nox", "echo foreign nox")

        self.use_uv()

    def use_uv(self) -> None:
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert uv, "uv is a dependency of the project"
        self.tool("uv", f'echo "$*" >>{self.root}.uv-calls\nexec {uv} "$@"')
        self.env |= {"UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_CONFIG": "1"}

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.write_text(text)
        return target

    def tool(self, name: str, body: str) -> None:
        target = self.root.parent / "bin" / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"#!/bin/bash\n{body}\n")
        target.chmod(0o755)

    def bootstrap(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "ci/bootstrap", *argv],
            env={**self.env, **env},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.root / "ci/bootstrap", *argv],
            env=self.env,
            cwd=self.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def installs(self) -> int:
        log = self.root / "installs"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def wait_for_install(self, number: int) -> None:
        wait_until(lambda: self.installs >= number, lambda: "the install never began")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_second_run_installs_nothing(project: Project) -> None:
    first = project.bootstrap("nox", "-s", "lint")
    assert first.returncode == 0, first.stderr
    assert first.stdout == "nox -s lint\n", "the command runs with .venv/bin first on its PATH"
    assert "installing the project into .venv" in first.stderr

    second = project.bootstrap("nox", "-s", "lint")
    assert (second.returncode, second.stdout, second.stderr) == (0, "nox -s lint\n", "")
    assert project.installs == 1


def test_arguments_and_exit_code_of_the_command_are_passed_on(project: Project) -> None:
    ran = project.bootstrap("bash", "-c", 'printf "[%s]" "$@"; exit 7', "_", "a b", "--", "-x")
    assert ran.returncode == 7
    assert ran.stdout == "[a b][--][-x]"


def test_changed_pyproject_installs_again(project: Project) -> None:
    project.bootstrap("true")
    project.write("pyproject.toml", PYPROJECT + "# changed\n")
    changed = project.bootstrap("true")
    assert "changed" in changed.stderr
    assert project.installs == 2
    assert project.bootstrap("true").stderr == ""


def test_moved_checkout_gets_a_new_environment(project: Project) -> None:
    project.bootstrap("true")
    moved = project.root.rename(project.root.with_name("moved"))
    project.root = moved
    assert project.bootstrap("nox").stdout == "nox\n"
    assert (moved / ".venv/bin/nox").read_text().startswith(f"#!{moved}/.venv/bin/python")


def test_failed_install_is_repeated(project: Project) -> None:
    project.write("broken", "")
    failed = project.bootstrap("echo", "never")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "could not be installed into .venv" in failed.stderr
    assert "Check the network" in failed.stderr
    (project.root / "broken").unlink()
    assert project.bootstrap("nox").stdout == "nox\n"


def test_next_run_repairs_a_killed_install(project: Project) -> None:
    stuck = project.write("stuck", "")
    child = project.start("true")
    project.wait_for_install(1)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    stuck.unlink()
    repaired = project.bootstrap("nox")
    assert "was interrupted" in repaired.stderr
    assert repaired.stdout == "nox\n"


def test_concurrent_runs_install_once(project: Project) -> None:
    stuck = project.write("stuck", "")
    children = [project.start("true"), project.start("true")]
    project.wait_for_install(1)
    time.sleep(0.3)
    stuck.unlink()
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    assert project.installs == 1


def test_installs_the_extras_that_pyproject_declares(project: Project) -> None:
    project.bootstrap("true")
    (install,) = [line for line in Path(f"{project.root}.uv-calls").read_text().splitlines() if "pip install" in line]
    assert install.endswith(f"--editable {project.root}[gpu,pip-tools,scan]")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"gpu", "pip-tools"} <= declared.keys()


def add_dependency(project: Project, version: str = "1.0") -> str:
    """A wheel that uv and pip find without a network; return the line of a lock for it."""
    folder = project.root.parent / "wheels"
    folder.mkdir(exist_ok=True)
    path = folder / f"dependency-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("dependency.py", "")
        info = f"dependency-{version}.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: dependency\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    where = str(folder)
    project.env |= {"UV_FIND_LINKS": where, "UV_NO_INDEX": "1", "PIP_FIND_LINKS": where, "PIP_NO_INDEX": "1"}
    return f"dependency=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def write_lock(project: Project, text: str) -> None:
    (project.root / "ci/locks").mkdir(exist_ok=True)
    project.write("ci/locks/bootstrap.txt", text)


def test_lock_decides_what_is_installed(project: Project) -> None:
    add_dependency(project, "2.0")
    write_lock(project, add_dependency(project))
    assert project.bootstrap("nox").stdout == "nox\n"
    assert len(list((project.root / ".venv").glob("lib/*/site-packages/dependency-1.0.dist-info"))) == 1
    installs = [line for line in Path(f"{project.root}.uv-calls").read_text().splitlines() if "pip install" in line]
    assert installs[0].endswith(f"--require-hashes --requirement {project.root}/ci/locks/bootstrap.txt")
    assert installs[1].endswith(f"--no-deps --no-build-isolation --editable {project.root}")
    assert (project.bootstrap("true").stderr, project.installs) == ("", 1)


def test_changed_lock_installs_again(project: Project) -> None:
    write_lock(project, add_dependency(project))
    project.bootstrap("true")
    write_lock(project, add_dependency(project, "2.0"))
    assert "its lock" in project.bootstrap("true").stderr
    assert list((project.root / ".venv").glob("lib/*/site-packages/dependency-2.0.dist-info"))
    assert project.bootstrap("true").stderr == ""


@pytest.mark.parametrize("change", ["another hash", "no hash", "not the newest"])
def test_file_that_the_lock_does_not_hash_is_never_installed(project: Project, change: str) -> None:
    line = add_dependency(project)
    name, _, digest = line.partition(" --hash=sha256:")
    lock = {"another hash": f"{name} --hash=sha256:{'0' * 64}\n", "no hash": f"{name}\n"}.get(change, f"# {digest}")
    write_lock(project, lock + ("dependency\n" if change == "not the newest" else ""))
    ran = project.bootstrap("echo", "never")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "could not be installed into .venv" in ran.stderr
    assert not list((project.root / ".venv").glob("lib/*/site-packages/dependency*"))
    assert project.installs == 0, "the project's own code did not run either"


def test_uv_is_used_if_available(project: Project) -> None:
    assert project.bootstrap("nox").stdout == "nox\n"
    assert "pip install" in Path(f"{project.root}.uv-calls").read_text()
    assert not (project.root / ".venv/bin/pip").exists()


def test_pip_is_used_if_uv_is_missing_or_fails(project: Project) -> None:
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], capture_output=True).returncode:
        pytest.skip("this machine's Python has no ensurepip: bootstrap found uv here")
    project.tool("uv", "exit 1")
    assert project.bootstrap("nox").stdout == "nox\n"
    assert (project.root / ".venv/bin/pip").exists()
    assert project.bootstrap("nox").stderr == ""


def test_environment_of_the_user_is_kept(project: Project) -> None:
    subprocess.run(["/usr/bin/env", "python3", "-m", "venv", project.root / ".venv"], env=project.env, check=True)
    theirs = project.write(".venv/theirs", "")
    project.bootstrap("true")
    project.write("pyproject.toml", PYPROJECT + "# changed\n")
    assert "using the existing .venv" in project.bootstrap("true").stderr
    assert theirs.exists()


def test_nox_is_linked_for_an_ordinary_user_only_if_missing(project: Project) -> None:
    assert "link" not in project.bootstrap("--dry-run", "true").stderr
    (project.root.parent / "bin/nox").unlink()
    if shutil.which("nox", path=project.env["PATH"]):
        pytest.skip("this machine has a nox in /usr/bin")
    assert "would link nox into" in project.bootstrap("--dry-run", "true").stderr


def use_doctor(project: Project, code: int = 0) -> None:
    """Let a program stand for `xoe-buildkit doctor`, which tests/doctor asks itself."""
    said = "to take it back: xoe-buildkit doctor --disable-store" if code == 0 else "error: kept by vfs\nhint: x"
    project.write("xoe-buildkit", f"#!/bin/sh\necho \"$*\" >>{project.root}/doctors\necho '{said}'\nexit {code}\n")
    for name in ("podman", "buildah"):
        project.tool(name, "exit 1")


def test_image_store_is_named_in_podmans_settings_once(project: Project) -> None:
    use_doctor(project)
    env = {"BUILDKIT_STORE": "/data/store"}
    assert "would name the image store" in project.bootstrap("--dry-run", "true", **env).stderr
    first = project.bootstrap("true", **env)
    assert "bootstrap: to take it back: nox -s doctor -- --disable-store\n" in first.stderr
    assert project.bootstrap("true", **env).stderr == ""
    assert (project.root / "doctors").read_text() == "doctor --enable-store\n"


def test_image_store_that_podman_cannot_use_stops_nothing(project: Project) -> None:
    use_doctor(project, code=1)
    ran = project.bootstrap("echo", "on", BUILDKIT_STORE="/data/store")
    assert (ran.returncode, ran.stdout) == (0, "on\n")
    assert "images will be imported, because podman cannot use an image store here: kept by vfs\n" in ran.stderr


@pytest.mark.parametrize("env", [{"BUILDKIT_DELIVERY": "import", "BUILDKIT_STORE": "/data/store"}, {}])
def test_storage_settings_are_left_where_that_is_not_wanted(project: Project, env: dict[str, str]) -> None:
    """A store in a folder that is emptied at the next start would stop podman."""
    use_doctor(project)
    project.bootstrap("true", **env)
    assert not (project.root / "doctors").exists()


def missing(project: Project, *argv: str, **env: str) -> list[str]:
    output = project.bootstrap("--dry-run", *argv, **env).stderr
    return [line.split()[0] for line in output.splitlines() if line.startswith("    ")]


GROUPS = """\
always         -     git        cmd:not-here-1  a reason to have it
tests          -     podman     cmd:not-here-2  x
tests,bench-build -  registry   cmd:not-here-3  x
"""


@pytest.mark.parametrize(
    "command",
    [
        "nox -s tests",
        "nox -s lint tests",
        "nox --session tests",
        "nox --session=tests",
        "nox --sessions lint tests -- -k x",
        "nox -rs tests",
        "nox -stests",
        "nox -rstests",
        "nox -R --no-color -s tests-3.13",
        "nox -s tests(python='3.13')",
        "nox -k tests",
        "/opt/nox/bin/nox -s tests",
        "python -m nox -s tests",
        "nox",
        "nox -r -- -x",
        "pytest tests",
        "python -m pytest -x",
    ],
)
def test_command_that_runs_the_tests_session_is_recognised(project: Project, command: str) -> None:
    project.write("ci/packages.txt", GROUPS)
    assert missing(project, *command.split()) == ["git", "podman", "registry"]


@pytest.mark.parametrize(
    "command",
    [
        "nox -s build-runtime",
        "nox -l",
        "nox -s lint -- tests",
        "nox -f tests -s lint",
        "nox --list",
        "echo -s tests",
        "",
    ],
)
def test_other_commands_install_no_test_packages(project: Project, command: str) -> None:
    project.write("ci/packages.txt", GROUPS)
    assert missing(project, *command.split()) == ["git"]


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("ci/image test tests", ["git", "podman"]),
        ("ci/image build test", ["git"]),
        ("ci/image plan", ["git"]),
        ("ci/image", ["git"]),
    ],
)
def test_podman_is_installed_only_for_commands_that_start_an_image(
    project: Project, command: str, wanted: list[str]
) -> None:
    project.write("ci/packages.txt", "always - git cmd:not-here-1 x\ntests,image-test - podman cmd:not-here-2 x\n")
    assert missing(project, *command.split()) == wanted


@pytest.mark.parametrize(
    "command",
    [
        "nox -s run-runtime",
        "nox -s build-app run-app -- --detach",
        "xoe-buildkit run app",
        ".venv/bin/xoe-buildkit run-app",
    ],
)
def test_command_that_runs_an_image_brings_what_that_needs(project: Project, command: str) -> None:
    project.write("ci/packages.txt", "always - git cmd:not-here-1 x\ntests,run - podman cmd:not-here-2 x\n")
    assert missing(project, *command.split()) == ["git", "podman"]
    assert missing(project, *command.replace("run", "build").split()) == ["git"]


def test_running_an_image_needs_podman_its_networks_and_curl() -> None:
    lines = [
        line.split()[:3] for line in (ROOT / "ci/packages.txt").read_text().splitlines() if line and line[0] != "#"
    ]
    trixie = {package for group, when, package in lines if "run" in group.split(",") and when in ("-", "!bookworm")}
    assert trixie == {"podman", "curl", "aardvark-dns", "nftables"}
    assert ["always", "!bookworm", "netavark"] in lines


def test_list_of_packages_that_was_not_copied_is_named(project: Project) -> None:
    (project.root / "ci/packages.txt").unlink()
    ran = project.bootstrap("nox")
    assert ran.returncode == 1
    assert f"error: there is no {project.root}/ci/packages.txt" in ran.stderr
    assert "No such file" not in ran.stderr


def test_sessions_are_read_from_the_environment(project: Project) -> None:
    project.write("ci/packages.txt", GROUPS)
    assert missing(project, "nox", NOXSESSION="lint,tests") == ["git", "podman", "registry"]
    assert missing(project, "nox", "-s", "bench-build") == ["git", "registry"]


def test_dry_run_prints_packages_with_reasons_and_changes_nothing(project: Project) -> None:
    project.write("ci/packages.txt", GROUPS)
    completed = project.bootstrap("--dry-run", "echo", "never")
    assert (completed.returncode, completed.stdout) == (0, "")
    assert "git                          a reason to have it" in completed.stderr
    assert "would install the project into .venv" in completed.stderr
    assert {path.name for path in project.root.iterdir()} == {"ci", "pyproject.toml", "backend.py"}


def test_conditions_select_packages_by_host(project: Project) -> None:
    me, other = ("root", "user") if os.geteuid() == 0 else ("user", "root")
    project.write(
        "ci/packages.txt",
        f"always {me} for-me cmd:not-here x\nalways {other} for-others cmd:not-here x\n"
        f"always !{other},!no-such-release both cmd:not-here x\nalways {me},no-such-release never cmd:not-here x\n",
    )
    assert missing(project, "true") == ["for-me", "both"]


def test_tool_in_sbin_counts_even_if_path_lacks_it(project: Project) -> None:
    tool = next(path.name for path in Path("/usr/sbin").iterdir() if not Path("/usr/bin", path.name).exists())
    project.write("ci/packages.txt", f"always - x cmd:{tool} why\n")
    assert missing(project, "true") == []


def test_missing_sudo_prints_the_complete_command(project: Project) -> None:
    """As an ordinary user whose PATH has no sudo."""
    tools = project.root.parent / "bin"
    for name in ("bash", "env", "dirname", "readlink", "mkdir"):
        (tools / name).symlink_to(f"/bin/{name}")
    project.tool("apt-get", "echo must not run; exit 1")
    project.write("ci/packages.txt", "always - one cmd:not-here x\nalways - two cmd:not-here y\n")
    argv: list[str | Path] = [project.root / "ci/bootstrap", "true"]
    if os.geteuid() == 0:
        project.root.parent.chmod(0o755)
        for folder in project.root.parent.parents[:-2]:  # pytest's own folders are closed to others
            folder.chmod(folder.stat().st_mode | 0o011)
        argv = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv]
    ran = subprocess.run(argv, env={**project.env, "PATH": str(tools)}, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "apt-get update && apt-get install --no-install-recommends -y one two" in ran.stderr
    assert "must not run" not in ran.stderr


def use_apt(project: Project, code: int = 0) -> Path:
    """Let a program of ours stand for apt; return the log that bootstrap keeps."""
    project.tool("apt-get", f'for n in {{1..40}}; do echo "noise $n of $*"; done\n[[ $* != *install* ]] || exit {code}')
    project.tool("sudo", 'exec "$@"')
    project.write("ci/packages.txt", "always - one cmd:not-here x\n")
    return project.root / ".nox/bootstrap-apt.log"


def test_output_of_apt_goes_to_a_log_that_is_named(project: Project) -> None:
    log = use_apt(project)
    ran = project.bootstrap("nox")
    assert (ran.returncode, ran.stdout) == (0, "nox\n")
    assert f"apt's log is {log}" in ran.stderr
    assert "noise" not in ran.stderr
    assert log.read_text().count("noise") == 80


def test_failure_of_apt_shows_the_end_of_its_output(project: Project) -> None:
    log = use_apt(project, code=100)
    ran = project.bootstrap("nox")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.count("| noise") == 12
    assert f"all of them in {log}. To try it manually: " in ran.stderr


def test_long_installation_is_seen_to_go_on(project: Project) -> None:
    stuck = project.write("stuck", "")
    argv = [project.root / "ci/bootstrap", "nox"]
    with subprocess.Popen(argv, env=project.env, cwd=project.root, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        line = next(line for line in child.stderr if "so far" in line)
        stuck.unlink()
    assert line.startswith("bootstrap: installing into .venv: ")
    assert child.returncode == 0


@pytest.mark.parametrize("least", ["3.99", "3.99.1, <5"])
def test_python_that_the_project_requires_is_named_if_there_is_none(project: Project, least: str) -> None:
    project.tool("uv", "exit 1")
    project.write("pyproject.toml", PYPROJECT.replace("[project]", f'[project]\nrequires-python = ">={least}"'))
    ran = project.bootstrap("nox")
    assert ran.returncode == 1
    assert "error: no Python ≥ 3.99 with its venv module, and the project needs one; python3 is Python 3." in ran.stderr
    assert "network" not in ran.stderr


def test_project_without_pyproject_installs_its_lock_or_says_what_is_missing(project: Project) -> None:
    (project.root / "pyproject.toml").unlink()
    ran = project.bootstrap("nox")
    assert ran.returncode == 1
    assert f"there is neither pyproject.toml nor ci/locks/bootstrap.txt in {project.root}" in ran.stderr
    assert "No such file" not in ran.stderr
    write_lock(project, add_dependency(project))
    assert project.bootstrap("true").stderr.splitlines() == [
        "bootstrap: installing the project into .venv: it holds Nox and what the project imports"
    ]
    assert len(list((project.root / ".venv").glob("lib/*/site-packages/dependency-1.0.dist-info"))) == 1


def test_session_without_option_and_a_subfolder_are_understood(project: Project) -> None:
    ran = project.bootstrap("nox", "build-runtime", "-r")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "nox takes names of sessions after -s\n    ci/bootstrap nox -s build-runtime -r\n" in ran.stderr
    project.tool("nox", "pwd")
    (project.root / "sub").mkdir()
    argv = (project.root / "ci/bootstrap", "nox", "-s", "x")
    project.bootstrap("true")
    (project.root / ".venv/bin/nox").write_text("#!/bin/sh\npwd\n")
    ran = subprocess.run(argv, env=project.env, cwd=project.root / "sub", capture_output=True, text=True)
    assert ran.stdout == f"{project.root}\n"


def test_line_for_the_path_is_printed_if_nox_is_not_on_it(project: Project) -> None:
    project.bootstrap("true")
    (project.root.parent / "bin/nox").unlink()
    if shutil.which("nox", path=project.env["PATH"]):
        pytest.skip("this machine has a nox in /usr/bin")
    argv: list[str | Path] = [project.root / "ci/bootstrap", "true"]
    if os.geteuid() == 0:
        subprocess.run(("chown", "-R", "65534:65534", project.root, project.home), check=True)
        for folder in project.root.parents[:-1]:
            folder.chmod(folder.stat().st_mode | 0o011)
        argv = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv]
    project.tool("getsubids", "exit 0")
    ran = subprocess.run(argv, env=project.env, cwd=project.root, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert f'export PATH="{project.home}/.local/bin:$PATH"' in ran.stderr.splitlines()[-1]


def test_help_exits_with_0_and_wrong_option_with_2(project: Project) -> None:
    assert project.bootstrap("--help").stdout.startswith("usage: ci/bootstrap")
    wrong = project.bootstrap("--what")
    assert wrong.returncode == 2
    assert "--what" in wrong.stderr


def test_package_list_of_the_project_is_well_formed() -> None:
    lines = [
        line.split(None, 4) for line in (ROOT / "ci/packages.txt").read_text().splitlines() if line and line[0] != "#"
    ]
    assert len(lines) > 15
    for group, when, package, probe, why in lines:
        assert set(group.split(",")) <= {"always", "tests", "bench-build", "bench-serve", "image-test", "run", "audit"}
        assert when
        assert package
        assert why
        assert all(one.startswith(("cmd:", "file:", "pkg:")) for one in probe.split("|"))


def test_ci_run_script_runs_the_command_of_the_readme() -> None:
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "exec ci/bootstrap nox -s tests"
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert os.access(ROOT / "ci/bootstrap", os.X_OK)
