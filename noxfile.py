"""Sessions of this repository: ``nox -l`` lists them. Any nox may run this; the work is done in ``.venv``."""

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

VENV = Path(__file__).parent / ".venv"
PYTHON = VENV / "bin" / "python"

if Path(sys.prefix) != VENV and (VENV / "bin/nox").exists():
    # another nox lacks what builds need: continue in the environment that ci/bootstrap made
    os.execv(PYTHON, [str(PYTHON), "-m", "nox", *sys.argv[1:]])  # noqa: S606 - no shell is meant

import nox  # noqa: E402 - not before the right environment runs
from nox.command import CommandFailed  # noqa: E402

try:
    import tomllib  # missing before Python 3.11

    from buildkit.sessions import register
except ModuleNotFoundError as error:
    again = shlex.join(("nox", *sys.argv[1:]))
    sys.exit(
        f"error: this nox lacks the module {error.name}\nhint: ci/bootstrap makes the environment: ci/bootstrap {again}"
    )

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "none"

register()


OLDEST = "3.11"  # Python, as in pyproject.toml
LOCKS = Path("ci/locks")
LOCKED = {  # the locks, by what uv resolves for each
    "bootstrap": ("--all-extras", "pyproject.toml", "-"),  # ci/bootstrap installs it; - is the build backend
    "lint": ("--group", "lint"),
    "tests": ("--group", "tests"),
    "application": ("requirements/api.in", "requirements/clients.in", "requirements/ml.in"),
}


def install(session: nox.Session, lock: str, python: str = sys.executable) -> None:
    """Install a lock into the environment, nothing without its hash; quick if it is installed already."""
    argv = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python)
    session.run(*argv, "--require-hashes", "--requirements", str(LOCKS / f"{lock}.txt"))


@nox.session(name="lock-environment")
def lock_environment(session: nox.Session) -> None:
    """Lock what ci/bootstrap and these sessions install, for every Python of the project (-- --upgrade: newest)."""
    LOCKS.mkdir(exist_ok=True)
    requires = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    requires = [*requires, "editables>=0.5"]  # hatchling imports it for an editable installation
    form = ("--generate-hashes", "--no-annotate", "--custom-compile-command", "nox -s lock-environment")
    argv = (sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST, *form)
    with tempfile.TemporaryDirectory() as folder:  # all at once, so that the locks agree; their pins are kept
        everything, backend = Path(folder, "everything.txt"), Path(folder, "backend.in")
        everything.write_text("".join(path.read_text("utf-8") for path in sorted(LOCKS.glob("*.txt"))), "utf-8")
        backend.write_text("\n".join(requires), "utf-8")
        inputs = {name: [str(backend) if word == "-" else word for word in words] for name, words in LOCKED.items()}
        every = [word for words in inputs.values() for word in words]
        session.run(*argv, *every, "--output-file", str(everything), *session.posargs, silent=True)
        for name, words in inputs.items():
            lock = ("--constraints", str(everything), "--output-file", str(LOCKS / f"{name}.txt"))
            session.run(*argv, *words, *lock, silent=True)


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel into dist, and start the wheel in an empty environment (-- TAG must fit the version)."""
    version = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]["version"]
    if session.posargs not in ([], [f"v{version}"]):
        session.error(f"{' '.join(session.posargs)} is not v{version}, the version in pyproject.toml")
    shutil.rmtree("dist", ignore_errors=True)
    committed = str(session.run("git", "log", "-1", "--format=%ct", silent=True, external=True)).strip()
    uv = (sys.executable, "-m", "uv")
    session.run(*uv, "build", "--quiet", "--no-build-isolation", env={"SOURCE_DATE_EPOCH": committed})
    wheel = f"dist/xoe_buildkit-{version}-py3-none-any.whl"
    with tempfile.TemporaryDirectory() as folder:
        python = f"{folder}/bin/python"
        session.run(*uv, "venv", "--quiet", "--python", sys.executable, folder)
        install(session, "bootstrap", python)
        session.run(*uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--no-index", wheel)
        with session.chdir(folder):
            said = str(session.run(python, "-I", "-m", "buildkit", "--version", silent=True, external=True)).strip()
    if said != f"xoe-buildkit {version}":
        session.error(f"the wheel says `{said}`")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, several files at once; arguments after -- go to pytest instead."""
    install(session, "tests")
    pytest = (sys.executable, "-m", "pytest")
    if session.posargs:
        session.run(*pytest, *session.posargs)
        return
    session.run(sys.executable, "-m", "compileall", "-q", "buildkit")  # sessions in tests write no bytecode
    workers = min(max(5, os.cpu_count() or 1), 6)  # many tests wait for tools and disks, not for a core
    env = {"PYTHONDONTWRITEBYTECODE": ""}  # or each worker compiles all tests itself
    run_all(session, (*pytest, "--numprocesses", str(workers), "--no-loadscope-reorder"), pytest, env)


FAILURES = 1  # pytest's exit code, if all tests were run and some failed
FEW = 5  # failed tests; more are no accident


def run_all(session: nox.Session, together: tuple[str, ...], alone: tuple[str, ...], env: dict[str, str]) -> None:
    """Run the suite, then what failed beside others once more, alone; what passes then is named, and fails nothing."""
    try:
        session.run(*together, "--cache-clear", env=env)
    except CommandFailed as error:
        if error.return_code != FAILURES:
            raise  # not all of them were run
        record = Path(".pytest_cache/v/cache/lastfailed")
        failed = sorted(json.loads(record.read_text("utf-8"))) if record.exists() else []
        if not 0 < len(failed) <= FEW:
            raise
        session.run(*alone, "--last-failed")
        session.warn(f"failed beside others, and passed alone: {', '.join(failed)}")


FRAMEWORKS = ("torch==2.13.0", "tensorflow-cpu==2.21.0")


@nox.session(name="test-frameworks")
def test_frameworks(session: nox.Session) -> None:
    """Test xoe_runtime with PyTorch and TensorFlow, which are installed beside (-- options of `uv pip install`)."""
    install(session, "tests")
    folder = Path(".nox/frameworks").absolute()
    uv = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder))
    options = session.posargs or ["--torch-backend", "cpu"]  # a tenth of the size of those for GPUs
    session.run(*uv, *FRAMEWORKS, *options)
    env = {"PYTHONPATH": str(folder), "TF_CPP_MIN_LOG_LEVEL": "2"}
    session.run(sys.executable, "-m", "pytest", "tests/xoe_runtime", "-q", "-rs", env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, spelling, wording, and that imports point downward."""
    install(session, "lint")
    session.run(sys.executable, "-m", "ruff", "check")
    session.run(sys.executable, "-m", "ruff", "format", "--check")
    session.run(str(Path(sys.executable).with_name("lint-imports")), silent=True)
    spelled = ("buildkit", "tests", "docs", "ci", "stages", ".github", *map(str, Path().glob("*.md")))
    session.run(sys.executable, "-m", "codespell_lib", *spelled)
    session.run(sys.executable, "ci/check-words")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly: of the package, and of the reference application with what it imports."""
    install(session, "lint")
    session.run(sys.executable, "-m", "mypy")
    install(session, "application")
    app = "stages/runtime/app"
    cache = ".mypy_cache/app"  # of its own: the application's modules have short names
    mypy = (sys.executable, "-m", "mypy", "--python-version", "3.13", "--cache-dir", cache)
    session.run(*mypy, app, env={"MYPYPATH": f"{app}:buildkit"})  # the image has the module xoe_runtime, too


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure how much of the package the unit tests reach; fails below the floor in pyproject.toml."""
    install(session, "tests")
    slow = (f"--ignore=tests/{folder}" for folder in ("ci", "containerfile", "docs", "e2e", "fuzz", "reference"))
    pytest = (sys.executable, "-m", "pytest", "--cov", "--cov-report=term", "-q")
    session.run(*pytest, "--numprocesses", "auto", "-m", "not tools and not network", *slow)


@nox.session(name="trim-hardened")
def trim_hardened(session: nox.Session) -> None:
    """Trace what the service imports, in the development image, and write stages/hardened/kept.txt."""
    install(session, "tests")
    session.run(sys.executable, "-m", "tests.reference.tracing")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz everything that reads foreign bytes (-- TARGET..., --seconds N for all of them, --streams N of pickles)."""
    parser = argparse.ArgumentParser(prog="nox -s fuzz --")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="a target of tests/fuzz/targets.py (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all of them together (default: 60)")
    parser.add_argument(
        "--streams",
        type=int,
        default=1_000_000,
        help="pickles to compare with CPython's unpicklers (default: a million)",
    )
    options = parser.parse_args(session.posargs)
    install(session, "tests")
    listing = (sys.executable, "-c", "from tests.fuzz.targets import TARGETS; print(*TARGETS)")
    known = str(session.run(*listing, silent=True, log=False)).split()
    if unknown := [name for name in options.targets if name not in known]:
        session.error(f"there is no target {', '.join(unknown)}; there are {', '.join(known)}")
    file = "tests/fuzz/test_fuzz.py"
    chosen = [f"{file}::test_target_raises_only_expected_errors[{name}]" for name in options.targets] or [file]
    env = {"BUILDKIT_FUZZ_SECONDS": str(options.seconds)}
    limit = f"--timeout={options.seconds + 300:.0f}"
    pytest = (sys.executable, "-m", "pytest", "--quiet", "--no-header")
    session.run(*pytest, limit, *chosen, env=env)
    if options.streams and not options.targets:
        env = {"BUILDKIT_FUZZ_STREAMS": str(options.streams)}
        limit = f"--timeout={options.streams / 50 + 300:.0f}"
        session.run(*pytest, limit, "--numprocesses", "auto", "--capture=no", "tests/fuzz/test_unpicklers.py", env=env)
