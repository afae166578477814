"""How services are started for development."""

from __future__ import annotations

from buildkit.declare.ports import PublishedPort
from buildkit.declare.stage import Running
from buildkit.develop.adapt import ReloadPlan, run_below_reloader, stage_files
from buildkit.running.environment import RunningService
from buildkit.running.flags import ContainerSpec, run_argv

CONTAINER = ContainerSpec(
    image="localhost/xoe/development",
    name="xoe-dev-app",
    running=Running(stop_seconds=7),
    ports=(PublishedPort(number=8000, host=8000),),
)
SERVICE = RunningService(name="app", container=CONTAINER, stage="development")
PLAN = ReloadPlan(
    program="/lib/reload", control="/cache/control", python="/opt/venv/bin/python", command=("python", "main.py"),
    watch=("/app",),
)  # fmt: skip


def argv(service: RunningService) -> tuple[str, ...]:
    return run_argv(service.container, "--detach")


def test_staged_folders_are_mounted_read_only_and_no_flag_is_lost() -> None:
    before, after = argv(SERVICE), argv(stage_files(SERVICE, [("/cache/tree", "/app")]))
    assert [word for word in after if word not in before] == ["--volume=/cache/tree:/app:ro,nosuid,nodev,z"]
    assert [word for word in before if word not in after] == []


def test_reloader_runs_the_command_of_the_image() -> None:
    after = argv(run_below_reloader(SERVICE, PLAN))
    assert after[after.index(CONTAINER.image) + 1 :] == (
        "/opt/venv/bin/python", "/opt/buildkit-reload", "--control", "/run/buildkit-dev/control",
        "--state", "/var/lib/buildkit-reload", "--stop-seconds", "7", "--watch", "/app", "--", "python", "main.py",
    )  # fmt: skip
    assert set(argv(SERVICE)) < set(after), "the flags stay"


def test_init_stays_process_one() -> None:
    command = ("/usr/bin/tini", "-g", "--", "python", "main.py")
    container = run_below_reloader(SERVICE, ReloadPlan(**{**fields(PLAN), "command": command})).container
    assert container.command[:5] == ("/usr/bin/tini", "-g", "--", "/opt/venv/bin/python", "/opt/buildkit-reload")
    assert container.command[-3:] == ("--", "python", "main.py")


def test_debugger_is_published_on_loopback_once() -> None:
    plan = ReloadPlan(**{**fields(PLAN), "debug": True, "wait": True})
    container = run_below_reloader(SERVICE, plan).container
    assert [port.published for port in container.ports] == ["127.0.0.1:8000:8000", "127.0.0.1:5678:5678"]
    assert container.command[9:13] == ("/app", "--debug", "0.0.0.0:5678", "--wait")
    chosen = PublishedPort(number=5678, host=9999)
    own = run_below_reloader(
        RunningService(name="app", container=ContainerSpec(image="i", name="n", running=Running(), ports=(chosen,))),
        plan,
    )
    assert own.container.ports == (chosen,)


def fields(plan: ReloadPlan) -> dict[str, object]:
    return {name: getattr(plan, name) for name in plan.__slots__}
