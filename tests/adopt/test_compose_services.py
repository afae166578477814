"""Services of a compose file become stages; what an image cannot hold is left over with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit.adopt.compose import parse_compose
from buildkit.adopt.draft import ImageDraft
from buildkit.adopt.init import adopt
from buildkit.adopt.services import apply_service
from buildkit.adopt.sources import InitOptions
from buildkit.declare.graph import load_graph
from buildkit.errors import DefinitionError
from tests.adopt.test_init import make

COMPOSE = """x-common: &common
  restart: always
services:
  api:
    <<: *common
    build:
      context: services/api
      args: {RELEASE: "2.0"}
    command: uvicorn api:app --port ${PORT:-8000}
    ports: ["127.0.0.1:9000:8000/tcp", "53:53/udp"]
    environment:
      LOG_LEVEL: info
      DEBUG: false
      DB_PASSWORD: hunter2
      DATABASE: postgres://me:secret@db/x
      GIVEN:
    volumes:
      - /data
      - models:/models
      - ./src:/srv/src
    healthcheck: {test: curl -f localhost:8000, interval: 1m, retries: 5}
    mem_limit: 2g
    stop_grace_period: 20s
    shm_size: 256m
    depends_on: [db]
  worker:
    build: {context: ., dockerfile: services/worker.Dockerfile, target: run}
    entrypoint: ["python", "-m"]
    command: ["worker"]
  slow:
    build: {context: ., dockerfile: services/worker.Dockerfile}
    command: ["worker", "--slow"]
  db:
    image: postgres:16
  gone:
    build: nowhere
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make(
        tmp_path / "shop",
        compose_DOT_yaml=COMPOSE,
        services__api__Dockerfile=(
            "FROM python:3.13-slim\nARG RELEASE=1.0\nLABEL release=$RELEASE\nWORKDIR /srv\nCOPY requirements.txt .\n"
            "RUN pip install -r requirements.txt\nCOPY src src\nCMD ['x']\n"
        ),
        services__api__requirements_DOT_txt="fastapi\n",
        services__api__src__api_DOT_py="app = 1\n",
        services__api___DOT_dockerignore="*.md\n!README.md\n",
        **{"services/worker.Dockerfile": "FROM python:3.13-slim AS run\nCOPY worker worker\nCMD ['y']\n"},
        worker__x_DOT_py="",
    )


def test_services_become_stages(repository: Path) -> None:
    done = adopt(repository, InitOptions())
    assert done.stages == ("api", "worker", "slow")
    stages = load_graph(repository).stages
    api, worker, slow = stages["api"], stages["worker"], stages["slow"]
    assert api.copy[0].source == "/services/api/src"
    assert (repository / "requirements/api.in").read_text() == "-r ../services/api/requirements.txt\n"
    assert api.config.cmd == ("uvicorn", "api:app", "--port", "8000")
    assert (api.config.ports, api.config.volumes) == (("8000", "53/udp"), ("/data", "/models"))
    assert dict(api.config.env) == {"LOG_LEVEL": "info", "DEBUG": "false"}
    assert (api.args, api.config.labels) == ((("RELEASE", "2.0"),), (("release", "2.0"),))
    assert 'labels = { "release" = "${RELEASE}" }' in (repository / "stages/api/stage.toml").read_text()
    assert api.config.healthcheck is not None
    assert (api.config.healthcheck.interval, api.config.healthcheck.retries) == (60, 5)
    assert (api.running.memory, api.running.stop_seconds) == ("2g", 20)
    assert (worker.base, slow.base) == ("app", "app"), "one build, two services"
    assert (stages["app"].ships, worker.ships, stages["app"].base) == (False, True, "base")
    assert (worker.config.entrypoint, worker.config.cmd) == (("python", "-m"), ("worker",))
    assert slow.config.cmd == ("worker", "--slow")
    assert (repository / ".containerignore").read_text().splitlines()[:2] == [
        "services/api/*.md",
        "!services/api/README.md",
    ]


def test_what_an_image_cannot_hold_is_left_over(repository: Path) -> None:
    left = {(found.line, found.text): found.advice for found in adopt(repository, InitOptions()).leftovers}
    assert [*left] == [
        (14, "api.environment: DB_PASSWORD"),
        (15, "api.environment: DATABASE"),
        (16, "api.environment: GIVEN"),
        (19, "api.volumes: models:/models"),
        (20, "api.volumes: ./src:/srv/src"),
        (24, "api.shm_size: 256m"),
        (25, "api.depends_on: db"),
        (33, "service db: postgres:16"),
        (36, "service gone: build"),
    ]
    assert "--option=--env=DB_PASSWORD" in left[14, "api.environment: DB_PASSWORD"]
    assert '"/dev/shm" = "256m"' in left[24, "api.shm_size: 256m"]
    assert "hunter2" not in (repository / "stages/api/stage.toml").read_text()


def test_one_file_or_name_goes_before_the_compose_file(repository: Path) -> None:
    done = adopt(repository, InitOptions(files=("services/api/Dockerfile",), name="web"))
    assert done.stages == ("web",)
    assert load_graph(repository).stages["web"].copy[0].source == "/services/api/src", "relative to its folder"


def test_several_containerfiles_are_named_after_their_folders(tmp_path: Path) -> None:
    text = "FROM python:3.13-slim\nCOPY libs libs\n"
    make(tmp_path / "x", a__api__Dockerfile=text, a__jobs__Dockerfile=text, libs__x_DOT_py="")
    done = adopt(tmp_path / "x", InitOptions(files=("a/api/Dockerfile", "a/jobs/Dockerfile")))
    assert done.stages == ("api", "jobs")
    with pytest.raises(DefinitionError, match="--name and --target are for one Containerfile"):
        adopt(tmp_path / "x", InitOptions(files=("a/api/Dockerfile", "a/jobs/Dockerfile"), name="x"))


def test_image_with_another_python_is_left_to_a_project_of_its_own(tmp_path: Path) -> None:
    files = {"a/Dockerfile": "FROM python:3.13\n", "b/Dockerfile": "FROM python:3.11\n"}
    make(tmp_path / "x", **files)
    done = adopt(tmp_path / "x", InitOptions(files=tuple(files)))
    assert done.stages == ("a",)
    assert done.leftovers[-1].text == "the image b: Python 3.11"


def apply(keys: str) -> tuple[ImageDraft, list[str]]:
    file = parse_compose(f"services:\n  a:\n    build: .\n{keys}", "compose.yaml")
    image = ImageDraft(name="a", cmd=("old",), healthcheck=("old",))
    return image, [str(left) for left in apply_service(image, file.services[0], file)]


@pytest.mark.parametrize(
    ("keys", "holds"),
    [
        ("    entrypoint: ['x']", lambda image: (image.entrypoint, image.cmd) == (("x",), ())),
        ("    command: conda run -n a serve", lambda image: image.cmd == ("serve",)),
        ("    healthcheck: {disable: true}", lambda image: image.healthcheck == ()),
        ("    healthcheck: {test: [CMD, a]}", lambda image: image.healthcheck == ("a",)),
        ("    healthcheck: {test: [CMD-SHELL, a b]}", lambda image: image.healthcheck == ("/bin/sh", "-c", "a b")),
        ("    ports: [{target: 80, published: 8080}]", lambda image: list(image.ports) == ["80"]),
        ("    environment: [A=1, 'B=a=$$b']", lambda image: image.env == {"A": "1", "B": "a=$b"}),
        ("    user: '1000:1000'\n    working_dir: /x", lambda image: (image.user, image.workdir) == ("1000", "/x")),
        (
            "    deploy: {resources: {limits: {memory: 1g, pids: 9}}}",
            lambda i: i.running == {"memory": "1g", "pids": 9},
        ),
        ("    stop_signal: SIGINT", lambda image: image.stop_signal == "SIGINT"),
    ],
)
def test_keys_of_a_service(keys: str, holds: Callable[[ImageDraft], bool]) -> None:
    image, left = apply(keys)
    assert holds(image)
    assert left == []


@pytest.mark.parametrize(
    ("keys", "advice"),
    [
        ("    command: serve $PORT", "a variable has no value"),
        ("    ports: ['8000-8010']", "ports of the image are single numbers"),
        ("    env_file: .env", "nox -s run-a -- --option=--env-file=.env"),
        ("    tmpfs: [/scratch:size=1g]", '`tmpfs = { "/tmp" = "64m", "/scratch" = "1g" }` into [running]'),
        ("    gpus: all", "--option=--device=nvidia.com/gpu=all"),
        ("    deploy: {resources: {limits: {cpus: 2}}}", "memory and pids"),
        ("    sysctls: {a: 1}", "write it where the container is run"),
    ],
)
def test_keys_that_an_image_cannot_hold(keys: str, advice: str) -> None:
    (found,) = apply(keys)[1]
    assert found.startswith("compose.yaml:4: a.")
    assert advice in found
