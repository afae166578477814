"""services.toml: every mistake has its file, key and the right word; parser and JSON Schema agree."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from buildkit.declare.ports import PublishedPort, parse_port
from buildkit.declare.services import Dependency, Exemption, NamedVolume, Service, ServiceSecret, Watch
from buildkit.declare.services_file import load_services, parse_services, services_schema
from buildkit.errors import DefinitionError

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(services_schema())
STAGES = ("runtime", "development", "redis")
DIGEST = "sha256:" + "a" * 64
FULL = f"""
[services.app]
stage = "runtime"
depends-on = {{ redis = "healthy" }}
ports = ["8000", "127.0.0.1:9000:9000", "0:7000", "[::1]:53:53/udp"]
env = {{ SPEECH_CACHE = "redis://redis:6379", API_TOKEN_FILE = "/run/secrets/token", MAX_TOKENS = "512" }}
secrets = ["token"]
volumes = {{ data = "/var/lib/data" }}
command = ["python", "-m", "app"]
memory = "2g"
pids = 99
cpus = 1.5
tmpfs = {{ "/tmp" = "64m" }}
outgoing = true
stop-seconds = 3
system-calls = "default"
exceptions = [{{ allow = "capability:CHOWN", why = "it hands over its files" }}]
[services.app.healthcheck]
test = ["true"]
[[services.app.watch]]
path = "stages/runtime/app"
action = "sync"
target = "/app"
ignore = ["*.md"]
[services.redis]
stage = "redis"
[services.postgres]
image = "docker.io/library/postgres@{DIGEST}"
user = "999:999"
[secrets.token]
generate = true
[secrets.other]
command = ["pass", "show", "x"]
[environments.production]
services = ["app", "redis"]
subnet = "10.90.1.0/24"
[environments.dev]
services = ["app", "redis", "postgres"]
[environments.dev.overrides.app]
stage = "development"
env = {{ DEBUG = "1", SPEECH_CACHE = "" }}
depends-on = {{ redis = "started", postgres = "started" }}
"""
REDIS = '[services.redis]\nstage = "redis"\n'
RUN = '[environments.e]\nservices = ["redis"]\n'
BOTH = REDIS + '[services.app]\nstage = "runtime"\n{app}\n[environments.e]\nservices = ["app", "redis"]\n'

# text, key, words of the problem and of the hint
BAD: dict[str, tuple[str, str, str]] = {
    "unknown stage": (REDIS.replace('"redis"', '"rdis"') + RUN, "services.redis.stage", "did you mean `redis`?"),
    "unknown key": (REDIS + 'port = ["8000"]\n' + RUN, "services.redis.port", "did you mean `ports`?"),
    "neither stage nor image": ("[services.redis]\npids = 9\n" + RUN, "services.redis", "either `stage` or `image`"),
    "stage and image": (
        REDIS + f'user = "9"\nimage = "x/y@{DIGEST}"\n' + RUN,
        "services.redis",
        "either `stage` or `image`",
    ),
    "image by tag": ('[services.redis]\nimage = "redis:7"\nuser = "9"\n' + RUN, "services.redis.image", "digest"),
    "image without a user": (f'[services.redis]\nimage = "x/y@{DIGEST}"\n' + RUN, "services.redis.user", "is missing"),
    "root": (REDIS + 'user = "0:0"\n' + RUN, "services.redis.user", "must not run as root"),
    "password in env": (REDIS + 'env.REDIS_PASSWORD = "dev123"\n' + RUN, "services.redis.env.REDIS_PASSWORD", "secret"),
    "token in env": (REDIS + 'env.HF_TOKEN = "x"\n' + RUN, "services.redis.env.HF_TOKEN", "/run/secrets/NAME"),
    "key in env": (REDIS + 'env.API_KEY = "12"\n' + RUN, "services.redis.env.API_KEY", "written down"),
    "password in a URL": (REDIS + 'env.DB = "postgres://a:b@db/x"\n' + RUN, "services.redis.env.DB", "in a URL"),
    "unknown secret": (
        REDIS + 'secrets = ["passwords"]\n[secrets.password]\ngenerate = true\n' + RUN,
        "services.redis.secrets",
        "did you mean `password`?",
    ),
    "secret of two sources": (REDIS + '[secrets.x]\nenv = "A"\nfile = "b"\n' + RUN, "secrets.x", "exactly one of env"),
    "secret without a source": (REDIS + "[secrets.x]\n" + RUN, "secrets.x", "exactly one of env"),
    "secret of false": (REDIS + "[secrets.x]\ngenerate = false\n" + RUN, "secrets.x.generate", "can only be true"),
    "unknown dependency": (
        BOTH.format(app='depends-on = { rediss = "healthy" }'),
        "services.app.depends-on",
        "did you mean `redis`?",
    ),
    "unknown condition": (
        BOTH.format(app='depends-on = { redis = "helthy" }'),
        "services.app.depends-on.redis",
        "did you mean `healthy`?",
    ),
    "cycle": (
        BOTH.format(app='depends-on = { redis = "started" }').replace(
            'stage = "redis"', 'stage = "redis"\ndepends-on = { app = "started" }'
        ),
        "environments.e",
        "in a cycle: app → redis → app",
    ),
    "dependency that is absent": (
        BOTH.format(app='depends-on = { redis = "started" }').replace('["app", "redis"]', '["app"]'),
        "environments.e.services",
        "depends on `redis`, which is not among them",
    ),
    "one port twice": (
        BOTH.format(app='ports = ["6379:8000"]').replace('stage = "redis"', 'stage = "redis"\nports = ["6379"]'),
        "environments.e",
        "port 6379 of the host is published by both app and redis",
    ),
    "one port on all addresses": (
        BOTH.format(app='ports = ["0.0.0.0:80:80"]').replace('stage = "redis"', 'stage = "redis"\nports = ["80"]'),
        "environments.e",
        "port 80 of the host",
    ),
    "a high port": (REDIS + 'ports = ["70000"]\n' + RUN, "services.redis.ports[0]", "from 1 to 65535"),
    "a wrong address": (REDIS + 'ports = ["300.1.1.1:80:80"]\n' + RUN, "services.redis.ports[0]", "300.1.1.1"),
    "unknown capability": (
        REDIS + 'exceptions = [{ allow = "capability:CHWN", why = "x" }]\n' + RUN,
        "services.redis.exceptions[0]",
        "did you mean `CHOWN`?",
    ),
    "exception without a reason": (
        REDIS + 'exceptions = [{ allow = "writable-root", why = " " }]\n' + RUN,
        "services.redis.exceptions[0].why",
        "is not a reason",
    ),
    "volume over the image": (REDIS + 'volumes.x = "/"\n' + RUN, "services.redis.volumes.x", "hide the whole image"),
    "volume over /usr's links": (REDIS + 'volumes.x = "/lib/x"\n' + RUN, "services.redis.volumes.x", "is below /lib"),
    "two volumes at one place": (
        REDIS + 'volumes = { x = "/data", y = "/data/" }\n' + RUN,
        "services.redis.volumes",
        "both mounted at /data",
    ),
    "sync to nowhere": (
        REDIS + '[[services.redis.watch]]\npath = "x"\naction = "sync"\n' + RUN,
        "services.redis.watch[0]",
        "needs `target`",
    ),
    "unknown service": (
        REDIS + RUN.replace('"redis"', '"redis", "rdis"'),
        "environments.e.services",
        "did you mean `redis`?",
    ),
    "override of nobody": (REDIS + RUN + "overrides.app.pids = 9\n", "environments.e.overrides.app", "add it to"),
    "override that is wrong": (
        REDIS + RUN + 'overrides.redis.stage = "x"\n',
        "environments.e.overrides.redis.stage",
        "there is no stage `x`",
    ),
    "a public network": (REDIS + RUN + 'subnet = "8.8.8.0/24"\n', "environments.e.subnet", "private"),
    "no network": (REDIS + RUN + 'subnet = "10.0.0.1/24"\n', "environments.e.subnet", "host bits"),
    "no environment": (REDIS, "environments", "is missing"),
}
# what a schema would have to compute
READER_ONLY = BAD.keys() - {
    "unknown key",
    "neither stage nor image",
    "stage and image",
    "image by tag",
    "unknown condition",
    "secret of two sources",
    "secret without a source",
    "exception without a reason",
    "no environment",
}


def test_every_key_is_read() -> None:
    services = parse_services(FULL, stages=STAGES)
    production, app = services.environment("production"), services.services[0]
    assert production.services == (app, services.services[2])
    assert production.subnet == "10.90.1.0/24"
    assert app == Service(
        name="app",
        stage="runtime",
        depends_on=(Dependency(service="redis", condition="healthy"),),
        ports=(
            PublishedPort(number=8000, host=8000),
            PublishedPort(number=9000, host=9000),
            PublishedPort(number=7000),
            PublishedPort(number=53, host=53, protocol="udp", address="::1"),
        ),
        env=(("API_TOKEN_FILE", "/run/secrets/token"), ("MAX_TOKENS", "512"), ("SPEECH_CACHE", "redis://redis:6379")),
        secrets=("token",),
        volumes=(NamedVolume(name="data", target="/var/lib/data"),),
        command=("python", "-m", "app"),
        resources=(
            ("memory", "2g"), ("pids", 99), ("cpus", 1.5), ("tmpfs", (("/tmp", "64m"),)), ("outgoing", True),
            ("stop_seconds", 3), ("system_calls", "default"),
        ),
        health=app.health,
        exceptions=(Exemption(allow="capability:CHOWN", why="it hands over its files"),),
        watch=(Watch(path="stages/runtime/app", action="sync", target="/app", ignore=("*.md",)),),
    )  # fmt: skip
    assert services.secrets == (
        ServiceSecret(name="other", command=("pass", "show", "x")),
        ServiceSecret(name="token", generate=True),
    )


def test_an_override_adds_to_env_and_replaces_other_keys() -> None:
    services = parse_services(FULL, stages=STAGES)
    app, postgres, redis = services.environment("dev").services
    assert (app.stage, app.image) == ("development", "")
    assert dict(app.env) == dict(services.services[0].env) | {"DEBUG": "1", "SPEECH_CACHE": ""}
    assert [(one.service, one.condition) for one in app.depends_on] == [("postgres", "started"), ("redis", "started")]
    assert (postgres, redis) == services.services[1:]


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_named_with_its_key_and_the_right_word(case: str) -> None:
    text, key, words = BAD[case]
    with pytest.raises(DefinitionError) as raised:
        parse_services(text, stages=STAGES)
    (problem,) = raised.value.problems
    assert (problem.file, problem.key) == ("services.toml", key)
    assert words in f"{problem.what} {problem.hint}"


def test_an_unknown_environment_is_named_with_the_similar_one() -> None:
    with pytest.raises(DefinitionError, match="no environment `prduction`") as raised:
        parse_services(FULL, stages=STAGES).environment("prduction")
    assert raised.value.hint == "did you mean `production`?"


def test_a_missing_file_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"there is no services\.toml") as raised:
        load_services(tmp_path, STAGES)
    assert "docs/services.md" in raised.value.hint


def test_services_schema_is_a_valid_json_schema_and_is_committed() -> None:
    jsonschema.Draft202012Validator.check_schema(services_schema())
    text = json.dumps(services_schema(), indent=2) + "\n"
    assert (ROOT / "docs/services.schema.json").read_text("utf-8") == text, (
        "run: nox -s schema -- --services docs/services.schema.json"
    )


def test_services_schema_accepts_what_the_parser_accepts() -> None:
    VALIDATOR.validate(tomllib.loads(FULL))


@pytest.mark.parametrize("case", BAD)
def test_services_schema_refuses_what_it_can(case: str) -> None:
    assert VALIDATOR.is_valid(tomllib.loads(BAD[case][0])) is (case in READER_ONLY)


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("8000", "127.0.0.1:8000:8000"),
        ("9000:8000/udp", "127.0.0.1:9000:8000/udp"),
        ("0:80", "127.0.0.1::80"),
        ("0.0.0.0:80:80", "0.0.0.0:80:80"),
        ("[::1]:81:80", "[::1]:81:80"),
    ],
)
def test_a_port_is_published_on_loopback_unless_an_address_is_said(text: str, published: str) -> None:
    assert parse_port(text).published == published
