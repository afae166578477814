"""Environments: order, names, addresses, and containers that keep every protection of their stages."""

from __future__ import annotations

import ipaddress

import pytest

from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.errors import DefinitionError
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec, make_container, run_argv
from buildkit.running.mounts import SecretMount, ServiceNetwork, VolumeMount

DIGEST = "sha256:" + "a" * 64
STAGES = {
    "runtime": Config(user="ml", ports=("8000",), healthcheck=Healthcheck(test=("python", "check.py"))),
    "redis": Config(user="999:999", ports=("6379",), healthcheck=Healthcheck(test=("redis-cli", "ping"))),
    "job": Config(user="9"),
}
SERVICES = f"""
[services.app]
stage = "runtime"
depends-on = {{ redis = "healthy", migrate = "completed" }}
ports = ["8000"]
env = {{ SPEECH_CACHE = "redis://redis:6379" }}
secrets = ["token"]
outgoing = true
memory = "2g"
cpus = 1.5
[services.migrate]
stage = "job"
depends-on = {{ redis = "started" }}
command = ["migrate", "now"]
[services.redis]
stage = "redis"
secrets = ["token"]
volumes = {{ data = "/var/lib/data" }}
[services.other]
image = "docker.io/x/y@{DIGEST}"
user = "7:8"
tmpfs = {{ "/tmp" = "1m" }}
exceptions = [
    {{ allow = "capability:CHOWN", why = "x" }}, {{ allow = "executable:/tmp", why = "x" }},
    {{ allow = "new-privileges", why = "x" }}, {{ allow = "writable-root", why = "x" }},
]
[secrets.token]
env = "TOKEN"
[secrets.unused]
generate = true
[environments.production]
services = ["app", "migrate", "redis"]
[environments.closed]
services = ["other"]
subnet = "192.168.9.0/28"
"""


def describe(stage: str) -> ContainerSpec:
    return make_container(f"localhost/x/{stage}:latest", f"x-{stage}", STAGES[stage], Running())


def made(name: str = "production", text: str = SERVICES) -> RunningEnvironment:
    return make_environment(parse_services(text, stages=STAGES), name, describe, project="x")


def test_services_start_after_those_that_they_depend_on() -> None:
    assert [service.name for service in made().services] == ["redis", "migrate", "app"]


def test_names_in_podman_begin_with_project_and_environment() -> None:
    environment = made()
    assert [service.container.name for service in environment.services] == [
        "x-production-redis", "x-production-migrate", "x-production-app",
    ]  # fmt: skip
    assert [network.name for network in environment.networks] == ["x-production", "x-production-outgoing"]
    assert [(one.name, one.source.env) for one in environment.secrets] == [("x-production-token", "TOKEN")]
    assert environment.volumes == ("x-production-data",)


def test_container_has_the_flags_of_its_stage_and_what_the_service_adds() -> None:
    redis, _, app = (service.container for service in made().services)
    alone = set(run_argv(describe("redis"), "--rm"))
    hosts = dict(redis.networks[0].hosts)
    assert set(run_argv(redis, "--rm")) ^ alone == {
        "--name=x-redis", "--name=x-production-redis", "--network=x-redis", "--publish=127.0.0.1:6379:6379",
        "--security-opt=seccomp=x-redis.seccomp.json", "--security-opt=seccomp=x-production.seccomp.json",
        f"--network=x-production:ip={hosts['redis']},mac={redis.mac}", "--hostname=redis",
        f"--add-host=app:{hosts['app']}", f"--add-host=migrate:{hosts['migrate']}",
        "--volume=x-production-data:/var/lib/data:rw,nosuid,nodev,noexec",
        "--tmpfs=/run/secrets:rw,nosuid,nodev,noexec,size=4k,mode=0755",
        "--secret=x-production-token,target=token,uid=999,gid=999,mode=0400",
    }  # fmt: skip
    words = run_argv(app, "--rm")
    assert {
        "--memory=2g", "--memory-swap=2g", "--cpus=1.5", "--publish=127.0.0.1:8000:8000",
        "--env=SPEECH_CACHE=redis://redis:6379", "--network=x-production-outgoing",
        "--secret=x-production-token,target=token,mode=0444",  # nobody knows the numbers of `ml`
    } <= set(words)  # fmt: skip
    assert not app.closed
    assert redis.closed


def test_a_command_of_the_service_replaces_that_of_the_image() -> None:
    assert run_argv(made().get("migrate").container, "--rm")[-3:] == ("localhost/x/job:latest", "migrate", "now")


def test_only_what_an_exception_names_is_loosened() -> None:
    (other,) = made("closed").services
    words = run_argv(other.container, "--rm")
    strict = run_argv(ContainerSpec(image="x", name="x", running=other.container.running), "--rm")
    assert set(strict) - set(words) == {
        "--name=x", "x", "--network=none", "--read-only", "--read-only-tmpfs=false",
        "--security-opt=no-new-privileges", "--tmpfs=/tmp:rw,nosuid,nodev,noexec,size=1m,mode=1777",
    }  # fmt: skip
    assert {"--cap-drop=all", "--cap-add=CHOWN", "--user=7:8"} < set(words)
    assert "--tmpfs=/tmp:rw,nosuid,nodev,exec,size=1m,mode=1777" in words


def test_an_address_stays_when_another_service_comes() -> None:
    more = SERVICES.replace('["app", "migrate", "redis"]', '["app", "migrate", "other", "redis"]')
    before, after = dict(made().network.hosts), dict(made(text=more).network.hosts)
    assert before.items() < after.items()
    assert len(set(after.values())) == len(after)
    assert all(ipaddress.ip_address(one) in ipaddress.ip_network(made().network.subnet) for one in after.values())


def test_environments_have_networks_of_their_own_or_the_one_they_name() -> None:
    assert made("closed").network.subnet == "192.168.9.0/28"
    assert (
        made().network.subnet != made(text=SERVICES.replace(".production]", ".staging]"), name="staging").network.subnet
    )


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        (
            'redis = "healthy", migrate = "completed"',
            'migrate = "healthy"',
            "services.app.depends-on",
            "no health check",
        ),
        ('"executable:/tmp"', '"executable:/x"', "services.other.exceptions", "there are /tmp"),
        ('"/var/lib/data"', '"/data"\ntmpfs = { "/data" = "1m" }', "services.redis.volumes", "folder in memory"),
    ],
)
def test_what_contradicts_a_stage_is_named(old: str, new: str, key: str, words: str) -> None:
    text = SERVICES.replace(old, new).replace('"/data"\ntmpfs', '"/data" }\ntmpfs').replace('"1m" } }', '"1m" }')
    with pytest.raises(DefinitionError) as raised:
        made("closed" if "other" in key else "production", text)
    (problem,) = raised.value.problems
    assert problem.key == key
    assert words in f"{problem.what} {problem.hint}"


def test_an_unknown_service_is_named() -> None:
    with pytest.raises(DefinitionError, match="no service `db` in production") as raised:
        made().get("db")
    assert raised.value.hint == "services are redis, migrate, app"


def test_mounts_are_written_as_podman_takes_them() -> None:
    assert VolumeMount(volume="v", target="/d").text == "v:/d:rw,nosuid,nodev,noexec"
    assert SecretMount(name="n", secret="s").text == "s,target=n,mode=0444"
    assert ServiceNetwork(name="n", subnet="", closed=False).hosts == ()
