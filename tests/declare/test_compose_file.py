"""Compose files as watching reads them."""

from __future__ import annotations

import pytest

from buildkit.declare.compose_file import ComposeBuild, ComposeProject, ComposeWatch, parse_compose
from buildkit.errors import DefinitionError

COMPLETE = """
name: Shop
x-build: &build
  context: .
  args: { VERSION: "${VERSION:-1}", PLAIN: }
services:
  web:
    image: example/web
    build:
      <<: *build
      dockerfile: ci/Containerfile
      target: dev
      cache_from: [x]
    develop:
      watch:
        - { action: sync, path: ./src/, target: /app/src/, ignore: [node_modules/], initial_sync: true }
        - { action: rebuild, path: package.json }
        - { action: sync+exec, path: sql, target: /sql, exec: { command: "psql < /sql/x" } }
        - { action: sync+restart, path: a.conf, target: /etc/a.conf, include: "*.conf" }
  redis: { image: "redis:7" }
"""


EVERY_MISTAKE = """
compose.yaml: `services.web.image`: needs the variable TAG: which version (TAG=… in the environment or in .env)
compose.yaml: `services.web.develop.watch[0].action`: `rebuilt` is none of rebuild, restart, sync, sync+restart, \
sync+exec (did you mean `rebuild`?)
compose.yaml: `services.web.develop.watch[1].targets`: unknown key (did you mean `target`?)
compose.yaml: `services.web.develop.watch[1].target`: must be an absolute path in the container (where the files go)
compose.yaml: `services.web.develop.watch[3].path`: is missing: which file or folder to watch
compose.yaml: `services.web.develop.watch[4].action`: is missing: one of rebuild, restart, sync, sync+restart, sync+exec
compose.yaml: `services.web.develop.watch[2]`: rebuilds a service that has no `build` (add `build`, or use sync or \
restart)
"""


def parse(text: str, **environment: str) -> ComposeProject:
    return parse_compose(["compose.yaml"], lambda _path: text, folder="My.Folder", environment=environment)


def test_compose_file_is_read_with_anchors_and_variables() -> None:
    project = parse(COMPLETE, VERSION="7")
    web, redis = project.services
    assert project.name == "shop"
    assert web.build == ComposeBuild(
        file="ci/Containerfile", target="dev", args=(("VERSION", "7"), ("PLAIN", None)), unread=("cache_from",)
    )
    assert web.watch == (
        ComposeWatch(path="src", action="sync", target="/app/src", ignore=("node_modules/",), initial_sync=True),
        ComposeWatch(path="package.json", action="rebuild"),
        ComposeWatch(path="sql", action="sync+exec", target="/sql", exec=("/bin/sh", "-c", "psql < /sql/x")),
        ComposeWatch(path="a.conf", action="sync+restart", target="/etc/a.conf", include=("*.conf",)),
    )
    assert (redis.name, redis.build, redis.watch) == ("redis", None, ())


def test_project_without_a_name_is_called_as_its_folder() -> None:
    assert parse("services: { a: { image: x } }").name == "myfolder"
    assert parse("services: { a: { image: x } }", COMPOSE_PROJECT_NAME="other").name == "other"


@pytest.mark.parametrize(
    ("written", "read"),
    [("$A", "1"), ("${A}", "1"), ("$$A", "$A"), ("${B:-x}", "x"), ("${E-x}", ""), ("${E:-x}", "x"), ("${A:+y}", "y"),
     ("${B+y}", ""), ("$B", ""), ("a$", "a$")],
)  # fmt: skip
def test_variables(written: str, read: str) -> None:
    (service,) = parse(f"services: {{ a: {{ build: {{ target: '{written}' }} }} }}", A="1", E="").services
    assert service.build == ComposeBuild(target=read)


def test_every_mistake_is_reported_with_its_place() -> None:
    text = """
services:
  web:
    image: "${TAG:?which version}"
    develop:
      watch:
        - { action: rebuilt, path: a }
        - { action: sync, path: b, targets: /b }
        - { action: rebuild, path: c }
        - { action: restart }
        - { path: d }
"""
    with pytest.raises(DefinitionError) as caught:
        parse(text)
    assert "\n".join(map(str, caught.value.problems)) == EVERY_MISTAKE.strip()


@pytest.mark.parametrize("text", ["", "a: [", "[]", "services: []", "services: { a: 1 }", "services: {}"])
def test_what_is_no_compose_file_is_an_error(text: str) -> None:
    with pytest.raises(DefinitionError):
        parse(text)


ALIASES = {
    "its aliases make it far larger": "x0: &a0 [x]\n"
    + "".join(f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)),
    "a value holds itself": "x: &a { b: [*a] }\n",
}


@pytest.mark.parametrize("what", ALIASES)
def test_small_file_that_is_endless_is_an_error(what: str) -> None:
    with pytest.raises(DefinitionError, match=what):
        parse(f"{ALIASES[what]}services: {{ web: {{ image: x }} }}\n")


def test_what_stands_often_is_no_endless_file() -> None:
    text = "x: &x [1, 2]\nservices: { web: { image: a, y: [*x, *x, *x] }, api: { image: b, y: *x } }\n"
    assert [service.name for service in parse(text).services] == ["web", "api"]


FILES = {
    "compose.yaml": """
include: [parts/db.yaml]
services:
  web:
    extends: { service: base, file: parts/common.yaml }
    build: .
    develop: { watch: [{ action: restart, path: web.conf }] }
  job: { extends: web, image: job, profiles: [once] }
""",
    "ci/override.yaml": """
services:
  web: { image: mine, build: { args: [A=1] }, develop: { watch: [{ action: restart, path: own }] } }
""",
    "parts/db.yaml": "services: { db: { image: db, build: image } }",
    "parts/common.yaml": """
services:
  base: { image: base, develop: { watch: [{ action: sync, path: src, target: /src }] } }
""",
}


def parse_files(*names: str, **changed: str) -> ComposeProject:
    files = {**FILES, **changed}
    return parse_compose(list(names), files.__getitem__, folder="shop", environment={})


def test_files_are_merged_with_what_they_include_and_extend() -> None:
    services = {service.name: service for service in parse_files("compose.yaml", "ci/override.yaml").services}
    assert set(services) == {"web", "job", "db"}
    web = services["web"]
    assert web.build == ComposeBuild(context=".", args=(("A", "1"),))
    assert [(rule.action, rule.path) for rule in web.watch] == [
        ("sync", "parts/src"),
        ("restart", "web.conf"),
        ("restart", "own"),
    ]
    assert services["job"].profiles == ("once",)
    assert services["job"].watch == web.watch[:2]
    assert services["db"].build == ComposeBuild(context="parts/image")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("services: { web: { extends: nobody } }", "there is no service `nobody`"),
        ("services: { web: { extends: web } }", "extends itself"),
        ("services: { web: { extends: [web] } }", "must be a service, or a mapping"),
        ("services: { web: { extends: { service: web, file: compose.yaml } } }", "includes or extends itself"),
        ("include: [compose.yaml]\nservices: { web: {} }", "includes or extends itself"),
        ("include: 7\nservices: { web: {} }", "`include` must be a list of paths"),
    ],
)
def test_what_cannot_be_merged_is_an_error(text: str, what: str) -> None:
    with pytest.raises(DefinitionError, match=what):
        parse_files("compose.yaml", **{"compose.yaml": text})
