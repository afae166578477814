"""The recommended flags: as a command, as a compose file and as units, all saying the same."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.running.commands import render_command
from buildkit.running.compose import render_compose
from buildkit.running.flags import ContainerSpec, health_options, make_container, run_argv
from buildkit.running.host import PodmanHost, find_unsupported, parse_host
from buildkit.running.quadlet import render_quadlet
from buildkit.running.seccomp import render_seccomp

HEALTH = Healthcheck(test=("python", "-IS", '/app/it is $1 "100%".py'), interval=30, timeout=5, start_period=10)
CONFIG = Config(user="ml", ports=("8000", "53/udp"), healthcheck=HEALTH)
RUNNING = Running(memory="2g", pids=99, tmpfs=(("/dev/shm", "1g"), ("/tmp", "64m")), stop_seconds=7)
FULL = make_container("localhost/x/web:latest", "x-web", CONFIG, RUNNING)
PLAIN = make_container("localhost/x/job:latest", "x-job", Config(), Running())
OPEN = make_container("localhost/x/web:latest", "x-web", CONFIG, Running(outgoing=True, tmpfs=()))
ALL = {"full": FULL, "plain": PLAIN, "open": OPEN}
LINUX = PodmanHost(version="5.4.2", controllers=("cpu", "memory", "pids"), closes=True)
GENERATORS = (
    "/usr/libexec/podman/quadlet",
    "/usr/lib/podman/quadlet",
    "/usr/lib/systemd/system-generators/podman-system-generator",
)


def test_container_has_every_recommended_flag() -> None:
    assert run_argv(FULL, "--rm") == (
        "podman", "run", "--rm", "--name=x-web", "--pull=never", "--user=ml",
        "--read-only", "--read-only-tmpfs=false",
        "--tmpfs=/dev/shm:rw,nosuid,nodev,noexec,size=1g,mode=1777",
        "--tmpfs=/tmp:rw,nosuid,nodev,noexec,size=64m,mode=1777",
        "--cap-drop=all", "--security-opt=no-new-privileges", "--security-opt=seccomp=x-web.seccomp.json",
        "--memory=2g", "--memory-swap=2g", "--pids-limit=99",
        "--network=x-web", "--publish=127.0.0.1:8000:8000", "--publish=127.0.0.1:53:53/udp",
        "--stop-timeout=7",
        '--health-cmd=["python", "-IS", "/app/it is $1 \\"100%\\".py"]',
        "--health-interval=30s", "--health-timeout=5s", "--health-start-period=10s", "--health-retries=3",
        "localhost/x/web:latest",
    )  # fmt: skip


def test_shared_memory_is_read_only_unless_the_stage_names_it() -> None:
    assert "--tmpfs=/dev/shm:ro,nosuid,nodev,noexec,size=4k" in run_argv(PLAIN, "--rm")
    assert "--tmpfs=/dev/shm:ro,nosuid,nodev,noexec,size=4k" in run_argv(OPEN, "--rm")
    assert sum(word.startswith("--tmpfs=/dev/shm:") for word in run_argv(FULL, "--rm")) == 1


def test_a_stage_may_keep_the_system_calls_that_podman_allows() -> None:
    free = make_container("i", "n", CONFIG, Running(system_calls="default"))
    assert not any("seccomp" in text.lower() for text in (*run_argv(free, "--rm"), render_compose(free)))
    assert not any("Seccomp" in text for _, text in render_quadlet(free))
    assert free.on_this_host() == free


def test_a_started_container_has_the_profile_of_this_installation() -> None:
    (option,) = (word for word in run_argv(PLAIN.on_this_host(), "--rm") if "seccomp" in word)
    path = Path(option.removeprefix("--security-opt=seccomp="))
    assert path.is_absolute()
    assert path.read_text("utf-8") == render_seccomp()


def test_a_container_without_a_port_has_no_network() -> None:
    assert "--network=none" in run_argv(PLAIN, "--rm")
    assert not any(word.startswith("--network") for word in run_argv(OPEN, "--rm"))


def test_first_port_may_differ_on_the_host_and_0_chooses_any() -> None:
    def published(port: int | None) -> list[str]:
        return [p.published for p in make_container("i", "n", CONFIG, Running(), host_port=port).ports]

    assert published(9000) == ["127.0.0.1:9000:8000", "127.0.0.1:53:53/udp"]
    assert published(0) == ["127.0.0.1::8000", "127.0.0.1::53/udp"]


def test_health_check_of_one_word_is_not_run_by_a_shell() -> None:
    assert dict(health_options(Healthcheck(test=("/bin/true",))))["cmd"] == "CMD /bin/true"


@pytest.mark.parametrize(
    ("host", "what"),
    [
        (PodmanHost(controllers=("cpu", "pids"), closes=True), "--memory=2g cannot be applied"),
        (PodmanHost(controllers=("cpu", "memory"), closes=True), "--pids-limit=99 cannot be applied"),
        (
            PodmanHost(version="4.3.1", network="cni", controllers=("memory", "pids"), closes=False),
            "4.3.1 with cni cannot create",
        ),
        (PodmanHost(controllers=("memory", "pids"), closes=True, seccomp=False), "system calls are not filtered"),
        (PodmanHost(controllers=("memory", "pids"), closes=True, systemd=False), "the health check does not run"),
    ],
)
def test_unsupported_flags_are_reported_and_only_they_are_omitted(host: PodmanHost, what: str) -> None:
    (lack,) = find_unsupported(FULL, host)
    assert what in lack.what
    assert lack.hint
    left = set(run_argv(FULL, "--rm")) - set(run_argv(FULL, "--rm", lacking=frozenset({lack.needs})))
    limits = {"--memory", "--memory-swap", "--pids-limit", "--network"}
    assert all(flag.split("=")[0] in limits or flag.startswith("--security-opt=seccomp=") for flag in left)


def test_capable_host_supports_every_flag() -> None:
    assert find_unsupported(FULL, LINUX) == ()


@pytest.mark.parametrize(
    ("network", "may"),
    [
        ("netavark 1.14.0", True),
        ("netavark 1.7.0", True),
        ("netavark 1.4.0", False),
        ("netavark", False),
        ("cni", False),
    ],
)
def test_older_netavark_cannot_close_networks(network: str, may: bool) -> None:
    assert PodmanHost(network=network).may_close is may


def test_an_ordinary_user_has_no_limits_with_old_cgroups() -> None:
    host = PodmanHost(rootless=True, cgroups="v1", controllers=("memory", "pids"))
    assert [lack.needs for lack in find_unsupported(PLAIN, host)] == ["memory", "pids"]


def test_podman_info_is_parsed() -> None:
    info = {
        "host": {
            "cgroupVersion": "v2",
            "networkBackend": "netavark",
            "networkBackendInfo": {"backend": "netavark", "version": "netavark 1.8.0"},
            "cgroupControllers": ["memory", "pids"],
            "security": {"rootless": True, "seccompEnabled": True},
            "idMappings": {"uidmap": [{"container_id": 0, "host_id": 1000, "size": 1}]},
        },
        "version": {"Version": "4.9.3"},
    }
    assert parse_host(info, systemd=True) == PodmanHost(
        version="4.9.3", rootless=True, cgroups="v2", controllers=("memory", "pids"), network="netavark 1.8.0",
        uids=((0, 1000, 1),),
    )  # fmt: skip
    assert find_unsupported(PLAIN, parse_host({}, systemd=True))[0].needs == "memory"  # missing: unsupported


@pytest.mark.parametrize("name", ALL)
def test_printed_command_is_the_one_that_runs(name: str) -> None:
    container = ALL[name]
    *network, command = render_command(container).replace("\\\n", " ").splitlines()
    assert tuple(shlex.split(command)) == run_argv(container, "--rm")
    made = [shlex.split(line) for line in network]
    closed = ["podman", "network", "create", "--disable-dns", "--opt", "no_default_route=1", "x-web"]
    assert made == ([closed] if container.closed else [])


@pytest.mark.parametrize("name", ALL)
def test_compose_file_is_valid_and_has_the_same_flags(name: str, tmp_path: Path) -> None:
    container = ALL[name]
    file = tmp_path / "compose.yaml"
    file.write_text(render_compose(container))
    tool = Path(sys.executable).with_name("check-jsonschema")
    checked = subprocess.run((tool, "--builtin-schema", "vendor.compose-spec", file), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    whole = YAML(typ="safe", pure=True).load(file.read_text())
    (service,) = whole["services"].values()
    flags = _from_compose(service, whole.get("networks", {}))
    assert flags == _comparable(container)


def _from_compose(service: dict[str, object], networks: dict[str, object]) -> set[str]:
    """The flags that a compose file means."""
    result = {f"--tmpfs={one}" for one in service.get("tmpfs", [])}
    result |= {f"--publish={one}" for one in service.get("ports", [])}
    result |= {f"--cap-drop={str(one).lower()}" for one in service["cap_drop"]}
    result |= {f"--security-opt={str(one).removesuffix(':true')}" for one in service["security_opt"]}
    result |= {f"--memory={service['mem_limit']}", f"--memory-swap={service['memswap_limit']}"}
    result |= {f"--pids-limit={service['pids_limit']}", f"--stop-timeout={str(service['stop_grace_period'])[:-1]}"}
    result |= {
        f"--{key}={service[word]}" for key, word in (("user", "user"), ("network", "network_mode")) if word in service
    }
    result |= {"--read-only"} if service["read_only"] is True else set()
    result |= {"--pull=never"} if service["pull_policy"] == "never" else set()
    health = service.get("healthcheck", {})
    for key, value in health.items():
        text = json.dumps([one.replace("$$", "$") for one in value[1:]]) if key == "test" else value
        result.add(f"--health-{ {'test': 'cmd'}.get(key, key).replace('_', '-') }={text}")
    closed = {"driver_opts": {"no_default_route": "1"}, "x-podman.disable_dns": True}
    if service.get("networks") == ["closed"] and networks == {"closed": closed}:
        result.add("--network=closed")
    return result


def _comparable(container: ContainerSpec) -> set[str]:
    """The flags; folders that are read-only stand for --read-only-tmpfs=false, for which compose has no word."""
    own = {flag.text.replace(f"--network={container.name}", "--network=closed") for flag in container.flags()}
    folders = {folder for folder, _ in container.folders}
    nothing = {f"--tmpfs={folder}:ro,nosuid,nodev,noexec,size=4k" for folder in {"/run", "/tmp", "/var/tmp"} - folders}
    return own - {"--read-only-tmpfs=false"} | nothing


@pytest.mark.parametrize("name", ALL)
def test_quadlet_units_have_the_same_flags(name: str) -> None:
    container = ALL[name]
    units = dict(render_quadlet(container))
    text = units.pop(f"{container.name}.container")
    assert set(units) == ({f"{container.name}.network"} if container.closed else set())
    unit_flags: set[str] = set()
    words = {"User": "user", "Tmpfs": "tmpfs", "DropCapability": "cap-drop", "PublishPort": "publish", "Pull": "pull"}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        value = value.replace("%%", "%")
        if key in words:
            unit_flags.add(f"--{words[key]}={value}")
        elif key == "Network":
            unit_flags.add(f"--network={value.removesuffix('.network')}")
        elif key == "PodmanArgs":
            unit_flags |= set(value.split())
        elif key.startswith("Health"):
            option = {"HealthCmd": "cmd", "HealthStartPeriod": "start-period"}.get(key, key[6:].lower())
            unit_flags.add(f"--health-{option}={value}")
    unit_flags |= {"--read-only"} if "\nReadOnly=true\n" in text else set()
    unit_flags |= {"--security-opt=no-new-privileges"} if "\nNoNewPrivileges=true\n" in text else set()
    unit_flags |= {
        f"--security-opt=seccomp={name}" for name in re.findall(r"\nSeccompProfile=%E/containers/(.+)\n", text)
    }
    assert unit_flags == {flag.text for flag in container.flags()}


@pytest.mark.tools
@pytest.mark.parametrize("name", ALL)
def test_podman_generator_turns_units_into_the_same_command(name: str, tmp_path: Path) -> None:
    generator = next(filter(shutil.which, GENERATORS), None)
    if generator is None:
        pytest.skip("podman 4.4 and later have a generator")
    container = ALL[name]
    for file, text in render_quadlet(container):
        (tmp_path / file).write_text(text)
    made = subprocess.run(
        (generator, "-dryrun", "-no-kmsg-log"),
        env={"QUADLET_UNIT_DIRS": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    (line,) = (line for line in made.stdout.splitlines() if line.startswith("ExecStart=") and " run " in line)
    words = shlex.split(line.removeprefix("ExecStart=").replace("%%", "%"))
    joined = " ".join(words).replace("=", " ")
    joined = joined.replace("%E/containers/", "")
    missing = [f.text for f in container.flags() if f.text.replace("=", " ") not in joined]
    assert missing == [], joined


def test_flags_of_a_lacking_feature_are_left_out() -> None:
    words = run_argv(FULL, "--rm", lacking=frozenset({"memory", "closed"}))
    assert set(run_argv(FULL, "--rm")) - set(words) == {"--memory=2g", "--memory-swap=2g", "--network=x-web"}


def test_a_job_that_may_reach_others_keeps_its_network() -> None:
    job = make_container("i", "n", Config(), Running(outgoing=True))
    assert not any(word.startswith("--network") for word in run_argv(job, "--rm"))


def test_health_check_keeps_its_letters() -> None:
    options = dict(health_options(Healthcheck(test=("tëst", "ü"), interval=1, timeout=1, start_period=1)))
    assert options["cmd"] == '["tëst", "ü"]'
