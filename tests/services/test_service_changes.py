"""What is done to an environment, decided from labels alone; messages about what cannot start."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.declare.ports import PublishedPort
from buildkit.errors import BuildError, ToolError
from buildkit.events import Event, Note
from buildkit.running.environment import RunningEnvironment
from buildkit.running.flags import run_argv
from buildkit.services import containers
from buildkit.services.compare import Changes, compare, take_fingerprint
from buildkit.services.labels import FINGERPRINT
from buildkit.services.secret_values import read_secrets
from buildkit.services.turns import in_turn
from buildkit.tools.podman_objects import FoundContainer
from tests.running.test_environment import SERVICES, made


def container(name: str, fingerprint: str, state: str = "running", code: int = 0) -> FoundContainer:
    labels = ((FINGERPRINT, fingerprint),)
    return FoundContainer(name=f"x-production-{name}", state=state, exit_code=code, labels=labels, ports=())


def changes(environment: RunningEnvironment, *found: FoundContainer) -> Changes:
    return compare(environment, {service.name: "same" for service in environment.services}, found)


def test_what_runs_as_it_should_stays_and_a_job_that_ended_well_does_not_run_again() -> None:
    found = container("app", "same"), container("redis", "same"), container("migrate", "same", "exited")
    assert set(changes(made(), *found).steps.values()) == {"unchanged"}


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ((), "started"),
        ((container("app", "other"),), "replaced"),
        ((container("app", "same", "exited"),), "replaced"),  # a service that ended is not well
        ((container("app", "same", "created"),), "replaced"),
    ],
)
def test_another_fingerprint_or_state_replaces(found: tuple[FoundContainer, ...], what: str) -> None:
    assert changes(made(), *found).steps["app"] == what


def test_a_job_that_failed_runs_again() -> None:
    assert changes(made(), container("migrate", "same", "exited", 3)).steps["migrate"] == "replaced"


def test_containers_of_no_service_are_left_over() -> None:
    found = container("app", "same"), container("app-previous", "same"), container("gone", "same")
    assert changes(made(), *found).leftovers == ("x-production-app-previous", "x-production-gone")


def test_fingerprint_counts_names_only_of_what_a_service_needs() -> None:
    def taken(environment: RunningEnvironment, name: str, *given: str) -> str:
        service = environment.get(name)
        return take_fingerprint(service, run_argv(service.container, "--detach"), *given)

    more = made(text=SERVICES.replace('["app", "migrate", "redis"]', '["app", "migrate", "other", "redis"]'))
    assert taken(made(), "redis", "image") == taken(more, "redis", "image")
    assert taken(made(), "redis", "image") != taken(made(), "redis", "other image")
    moved = made(
        text=SERVICES.replace('["app", "migrate", "redis"]', '["app", "migrate", "redis"]\nsubnet = "10.1.1.0/24"')
    )
    assert taken(made(), "app") != taken(moved, "app")


@pytest.mark.parametrize(
    ("output", "what", "hint"),
    [
        (
            "cannot listen on the TCP port: listen tcp4 127.0.0.1:8000: bind: address already in use",
            "app: port 127.0.0.1:8000 of this host is in use by another program",
            "'sport = 8000'",
        ),
        (
            "rootlessport listen tcp [::1]:8000: bind: address already in use",
            "app: port [::1]:8000 of this host is in use",
            "'sport = 8000'",
        ),
        (
            "pasta failed: Failed to bind port 8000 (Address already in use) for option '-t 8000'",
            "app: port 8000 of this host is in use",
            "'sport = 8000'",
        ),
        (
            'the container name "x-production-app" is already in use by 12ab',
            "app: another container has the name x-production-app",
            "podman rm --force x-production-app",
        ),
        ("crun: unknown", "app: podman could not start", "doctor"),
    ],
)
def test_podmans_message_becomes_one_about_the_service(
    output: str, what: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_argv: object) -> None:
        raise ToolError("podman could not start x", hint="nox -s doctor reports what lacks", output=output)

    monkeypatch.setattr(containers.podman, "start_detached", fail)
    monkeypatch.setattr(containers, "_check_ports", lambda _service: None)  # 8000 may be another's here
    with pytest.raises(BuildError) as raised:
        containers.start_container(made().get("app"), (), containers.ServiceChange.START, containers.MadeObjects())
    assert raised.value.message.startswith(what)
    assert hint in raised.value.hint


def test_a_port_that_is_taken_is_found_before_podman_reserves_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    app = made().get("app")
    monkeypatch.setattr(containers.podman, "start_detached", pytest.fail)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        service = replace(app, container=replace(app.container, ports=(PublishedPort(number=8000, host=number),)))
        with pytest.raises(BuildError, match=f"app: port 127.0.0.1:{number} of this host is in use"):
            containers.start_container(service, (), containers.ServiceChange.START, containers.MadeObjects())


def test_a_secret_without_a_value_is_named_with_its_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    with pytest.raises(BuildError, match=r"services\.toml: `secrets\.token`: the variable TOKEN is not set") as raised:
        read_secrets(made().secrets, tmp_path)
    assert raised.value.hint == "export TOKEN=…"
    monkeypatch.setenv("TOKEN", "x")
    assert read_secrets(made().secrets, tmp_path) == {"x-production-token": b"x"}
    filed = made(text=SERVICES.replace('env = "TOKEN"', 'file = "token.txt"')).secrets
    with pytest.raises(BuildError, match=r"token\.txt cannot be read: No such file"):
        read_secrets(filed, tmp_path)
    (tmp_path / "token.txt").write_text("of a file\n")
    assert read_secrets(filed, tmp_path) == {"x-production-token": b"of a file"}
    (tmp_path / "token.txt").write_text("\n")
    with pytest.raises(BuildError, match="0 bytes are no secret"):
        read_secrets(filed, tmp_path)


def test_a_second_start_waits_for_the_first_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(tmp_path / "ledger.key"))
    events: list[Event] = []
    waiting = threading.Event()

    def hear(event: Event) -> None:
        events.append(event)
        waiting.set()

    def second() -> None:
        with in_turn(made(), hear):
            order.append("second")

    order: list[str] = []
    thread = threading.Thread(target=second)
    with in_turn(made(), events.append):
        thread.start()
        assert waiting.wait(60)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]
    assert events == [Note(text="waiting for another start of production")]
    assert list(tmp_path.iterdir()) == [], "no lock is left"
