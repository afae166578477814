"""Run every command of the documentation, in order, in a fresh copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from buildkit.tools.storage_settings import ROOTS
from tests.containers import container_environment
from tests.reference.builds import shared_cache
from tests.registry import serve_registry

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/adopt.md",
    "docs/locks.md",
    "docs/models.md",
    "docs/profiling.md",
    "docs/stages.md",
    "docs/report.md",
    "docs/cache.md",
    "docs/delivery.md",
    "docs/graph.md",
    "docs/ci.md",
    "docs/containerfile.md",
    "docs/running.md",
    "docs/gpu.md",
    "docs/alerts.md",
    "docs/monitoring.md",
    "docs/dashboards.md",
    "docs/runtime-security.md",
    "docs/drift.md",
    "docs/development.md",
    "docs/services.md",
    "docs/rollout.md",
    "docs/supply-chain.md",
    "docs/audit.md",
    "docs/hardened.md",
    "docs/scanning.md",
    "docs/benchmarks.md",
)


def project_address():
    """The address of the project, which only pyproject.toml knows."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["GitHub"]


NOT_RUN = {
    (
        "truncate --size=40G race.img && mkfs.ext4 -q race.img\n"
        "mkdir race && sudo mount -o loop,noatime race.img race\n"
        "TMPDIR=$PWD/race nox -s bench-build -- --workload heavy --until runnable --peer buildah --fill-memory\n"
    ): "it mounts a file system and races for minutes; tests/e2e runs short races",
    (
        "nox -s profile -- runtime --requests requests.txt\n"
        "nox -s profile -- runtime --only cpu --seconds 20 --clients 8 --json\n"
    ): "starts the service three times; tests/reference/test_reference_profile.py does",
    "nox -s observe -- production\nnox -s observe -- --status\nnox -s observe -- --down\n": (
        "it builds and starts four services; tests/e2e/test_observe_session.py does"
    ),
    "nox -s push-runtime -- ghcr.io/me/app:1.0 --cache-write ghcr.io/me/app\n": (
        "it needs a registry to write to; docs/delivery.md runs the same with one"
    ),
    "nox -s drift -- profile runtime recordings --output stages/runtime/app/profiles/silero-vad.json\n": (
        "it needs some hundred recordings; tests/reference/test_reference_watched.py makes one"
    ),
    (
        "nox -s drift -- report http://127.0.0.1:8000\n"
        "nox -s drift -- report http://127.0.0.1:8000 --svg drift.svg --save now.txt\n"
        "nox -s drift -- report http://127.0.0.1:8000 --since now.txt --json\n"
    ): "needs a service that runs; tests/monitor/test_model_figures.py has one",
    "ci/bootstrap nox -s tests\n": "it runs the tests that run these commands",
    "".join(
        f"{builder} --file Podmanfile --tag xoe-runtime .\n"
        for builder in (
            "docker build",
            "podman build --format docker --ignorefile Podmanfile.dockerignore",
            "buildah build --layers --format docker --ignorefile Podmanfile.dockerignore",
        )
    ): "it fetches Debian from a registry of containers, and wheels from an index",
    "cosign verify -a stage=runtime --key sign.pub --insecure-ignore-tlog=true ghcr.io/me/app:1.0\n"
    "cosign verify-attestation --key sign.pub --insecure-ignore-tlog=true --type slsaprovenance1 "
    "ghcr.io/me/app:1.0\n": ("it needs cosign, which is not among the tools of this project"),
    "cosign verify -a stage=runtime --certificate-oidc-issuer https://token.actions.githubusercontent.com \\\n"
    "    --certificate-identity https://github.com/me/app/.github/workflows/images.yml@refs/heads/main "
    "ghcr.io/me/app:runtime\n": "it needs cosign, which is not among the tools of this project",
    "nox -s bench-build -- --workload heavy --until pushed fresh --peer buildkitd buildkitd-stages --fill-memory\n"
    "nox -s bench-build -- --workload heavy --until runnable --peer buildah --fill-memory\n"
    "nox -s bench-build -- --scale\n"
    "nox -s bench-build -- --compare old.json --fail-over 15%\n": "races take half an hour; tests/e2e runs short ones",
    "nox -s audit-deps\nnox -s audit-deps -- runtime --json\n": "it asks an advisory service on the internet",
    f"pip install 'xoe-buildkit @ git+{project_address()}'\n": (
        "it fetches this project from its public address; tests/e2e installs the wheel instead"
    ),
    "sudo apt-get install buildah skopeo mmdebstrap debian-archive-keyring uidmap podman netavark nftables \\\n"
    "  passt slirp4netns curl\n"
    "xoe-buildkit doctor\n": "it installs packages of the system",
    "nox -s lock -- --upgrade-apt\n": "it takes what Debian has now; tests/e2e runs it with an archive of its own",
    "nox -s build-runtime -- --to docker\ndocker run --rm localhost/xoe/runtime:latest python3 --version\n": (
        "it needs a Docker engine; tests/e2e/test_docker_delivery.py starts one"
    ),
    "nox -s build-runtime -- --arch arm64\nnox -s plan -- runtime --arch arm64\n": (
        "this repository has images for one processor; tests/e2e/test_two_processors.py does it"
    ),
    "nox -s rollout -- status\nnox -s rollout -- promote app\nnox -s rollout -- promote app --to 25\n"
    "nox -s rollout -- back app\nnox -s rollout -- watch app --every 10\n": (
        "needs a service with versions; tests/rollout runs each on real containers"
    ),
    "nox -s scale -- app\nnox -s scale -- app --once --json\n": (
        "needs a service with replicas, and runs until it is interrupted; tests/rollout does"
    ),
    "nox -s top -- --stream --interval 5 | jq -c '.containers[] | [.name, .cpu.used, .memory.oom_kills]'\n": (
        "it lasts until it is interrupted; tests/e2e/test_top_session.py interrupts it"
    ),
    "nox -s monitor\nnox -s monitor -- --all --listen 127.0.0.1:9469\n": (
        "it lasts until it is interrupted; tests/e2e/test_top_session.py interrupts it"
    ),
    "nox -s monitor -- --feed ~/.local/state/xoe-monitor\n"
    "podman run --rm --read-only --cap-drop all --volume ~/.local/state/xoe-monitor:/feed:ro,z "
    "--publish 127.0.0.1:9469:9469 localhost/xoe-observe/monitor\n": (
        "it lasts until it is interrupted; tests/e2e/test_observe_monitor.py runs both halves"
    ),
    "nox -s run-runtime -- --detach\nnox -s audit-running -- --once\npodman rm --force xoe-runtime\n": (
        "tests/reference/test_reference_running.py audits that container, and asks for no finding at all"
    ),
    "nox -s trim-hardened\n": "it builds the development image and runs the service's tests",
    "nox -s reproduce -- runtime --json again.json\n": "it makes a Debian root again, which takes a minute",
}
FOREIGN = "docs/adopt.md"  # its commands make a repository of their own, in an empty folder
REGISTRY = "localhost:5000"
_BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]*) -->\n)?```sh\n(?P<commands>.*?)```", re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    found = _BLOCK.finditer((ROOT / page).read_text("utf-8"))
    return [(match["commands"], match["reason"] or "") for match in found]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry that replaces the one in the documentation, and an environment in which skopeo uses it without TLS."""
    with serve_registry(tmp_path_factory.mktemp("registry")) as host:
        home = tmp_path_factory.mktemp("home")
        (home / ".config/containers").mkdir(parents=True)
        (home / ".config/containers/registries.conf").write_text(
            f'[[registry]]\nlocation = "{host}"\ninsecure = true\n'
        )
        (home / ".cache").symlink_to(Path.home() / ".cache")
        yield host, {"HOME": str(home)}


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """The host's storage with settings in a file of ours, and a cache and an image store of ours: commands write."""
    folder = Path(tempfile.mkdtemp(prefix="bk-"))
    env = {"BUILDKIT_STORE": str(folder / "store"), "BUILDKIT_CACHE": str(shared_cache(tmp_path_factory))}
    if os.geteuid() == 0:
        roots = "".join(f'{name} = "{path}"\n' for name, path in ROOTS.items())
        (folder / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\n{roots}')
        env["CONTAINERS_STORAGE_CONF"] = str(folder / "storage.conf")
    yield env
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A repository with one commit that holds the files of the working tree."""
    folder = tmp_path_factory.mktemp("docs") / "checkout"
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for command in ("init --quiet", "add --all", "-c user.name=t -c user.email=t@localhost commit --quiet -m docs"):
        subprocess.run(("git", *command.split()), cwd=folder, check=True)
    return folder


def test_every_page_with_commands_is_listed():
    pages = {"README.md", *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))}
    assert {page for page in pages if blocks(page)} == set(PAGES)


def test_commands_left_out_are_listed_with_their_reason():
    left_out = {commands: reason for page in PAGES for commands, reason in blocks(page) if reason}
    assert left_out == NOT_RUN


@pytest.mark.tools
@pytest.mark.network
@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_succeed_in_order(page, checkout, registry, storage, tmp_path):
    host, home = registry
    needs_registry = any(REGISTRY in commands for commands, _ in blocks(page))
    env = {**os.environ, **storage, **container_environment(tmp_path), **(home if needs_registry else {})}
    env.pop("NOX_CURRENT_SESSION", None)
    if page == FOREIGN:
        checkout = tmp_path / "greeter"
        checkout.mkdir()
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    for commands, reason in blocks(page):
        if reason:
            continue
        finished = subprocess.run(
            ("bash", "-eu", "-o", "pipefail", "-c", commands.replace(REGISTRY, host)),
            cwd=checkout, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert finished.returncode == 0, f"{page}:\n{commands}\n{finished.stdout.decode(errors='replace')}"


def test_stage_file_examples_parse_and_settings_example_shows_the_defaults():
    from buildkit.declare.project import parse_project
    from buildkit.declare.stage_file import parse_stage

    examples = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/stages.md").read_text("utf-8"), re.DOTALL)
    stages = [text for text in examples if "[tool.buildkit]" not in text]
    assert len(stages) == 8
    for stage in stages:
        summary = "" if "summary" in stage else 'summary = "x"\n'
        root = '[root]\nsuite = "x"\npackages = "y"\n' if stage.startswith("[[root") else ""
        parse_stage(summary + root + stage, name="x", file="docs/stages.md")
    several = [text for text in examples if "[tool.buildkit]" in text]
    assert all(parse_project(text, ROOT) for text in several)
    settings = max(several, key=len)  # the others show single settings
    defaults = parse_project('[tool.buildkit]\nname = "xoe"\n', ROOT)
    assert parse_project(settings, ROOT) == defaults
