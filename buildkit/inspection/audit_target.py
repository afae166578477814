"""The container that an audit starts: that of a stage, or one of any image, by what its config says."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from typing import Any

from buildkit.build.planner import Planner
from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.errors import BuildError
from buildkit.inspection.stage_container import describe_container
from buildkit.running.flags import ContainerSpec, make_container
from buildkit.tools import podman

_NANOSECONDS = 1_000_000_000


def describe_target(planner: Planner, target: str) -> ContainerSpec:
    """Return the container to audit: of a stage that was built, or of an image, which is pulled if needed."""
    name = f"buildkit-audit-{os.getpid()}-{secrets.token_hex(4)}"
    if target in planner.graph.stages:
        container = describe_container(planner, target, name=name, host_port=0)
        if podman.find_image_config(container.image) is None:
            raise BuildError(f"{container.image} is not in local storage", hint=f"nox -s build-{target}")
        return container
    if (image := podman.find_image_config(target)) is None:
        podman.pull(target)
        image = podman.find_image_config(target)
    return make_container(target, name, parse_image_config(image or {}), Running(), host_port=0)


def parse_image_config(image: Mapping[str, Any]) -> Config:
    """Return the part of an image's config that matters at run time (OCI image specification, Docker's Healthcheck)."""
    config = image.get("config") or {}
    exposed = sorted(map(str, config.get("ExposedPorts") or {}))
    ports = tuple(port for port in exposed if re.fullmatch(r"[0-9]{1,5}(/(tcp|udp))?", port))
    env = tuple((line.partition("=")[0], line.partition("=")[2]) for line in map(str, config.get("Env") or ()))
    return Config(
        user=str(config.get("User") or ""),
        workdir=str(config.get("WorkingDir") or ""),
        env=env,
        ports=ports,
        healthcheck=_read_health(config.get("Healthcheck") or {}),
    )


def _read_health(healthcheck: Mapping[str, Any]) -> Healthcheck | None:
    test = tuple(map(str, healthcheck.get("Test") or ()))
    if test[:1] == ("CMD-SHELL",):
        test = ("/bin/sh", "-c", *test[1:])
    elif test[:1] == ("CMD",):
        test = test[1:]
    if not test or test == ("NONE",):
        return None

    def seconds(key: str, default: int) -> int:
        return round(int(healthcheck.get(key) or 0) / _NANOSECONDS) or default

    return Healthcheck(
        test=test,
        interval=seconds("Interval", 30),
        timeout=seconds("Timeout", 30),
        start_period=seconds("StartPeriod", 0),
        retries=int(healthcheck.get("Retries") or 3),
    )
