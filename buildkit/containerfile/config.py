"""Render the image config as instructions."""

from __future__ import annotations

import json
from collections.abc import Iterator

from buildkit.containerfile.quoting import check_line, check_path, quote_argv, quote_word
from buildkit.declare.stage import Config, Healthcheck
from buildkit.declare.target import SYSTEM_PATH


def render_config(config: Config, file: str, *, inherits: bool, resets: bool = False) -> tuple[list[str], list[str]]:
    """Return two lists of instructions for ``config``.

    With ``inherits`` there is an image with a config of its own below; with ``resets`` nothing of that but the
    environment remains.

    The first list comes before the layers: WORKDIR makes a folder, for which BuildKit needs all layers below, even
    those that COPY --link would leave in the registry. The second only sets the config. ``file`` is the stage file, for
    messages. Raises DefinitionError for values that a Containerfile cannot express.
    """
    workdir = check_line(config.workdir, file, "config.workdir") or ("/" if resets else "")
    config_lines = [*_metadata(config, file, inherits=inherits), *_process(config, file, resets=resets)]
    owner = ["USER 0"] if inherits and (config.user or resets) else []  # of the folder that WORKDIR makes
    return [*owner, f"WORKDIR {quote_word(workdir)}"] if workdir else [], config_lines


def _metadata(config: Config, file: str, *, inherits: bool) -> Iterator[str]:
    """Yield the environment, labels, ports and volumes."""
    if config.env:
        yield _pairs("ENV", [(name, _env(name, value, file, inherits=inherits)) for name, value in config.env])
    if config.labels:
        checked = ((name, check_line(value, file, f"config.labels.{name}")) for name, value in sorted(config.labels))
        yield _pairs("LABEL", [(name, quote_word(value)) for name, value in checked])
    if config.ports:
        yield f"EXPOSE {' '.join(config.ports)}"
    if config.volumes:
        yield f"VOLUME {json.dumps([check_path(path, file, 'config.volumes') for path in config.volumes])}"


def _process(config: Config, file: str, *, resets: bool) -> Iterator[str]:
    """Yield the user, entry point, command, health check and stop signal."""
    stop = config.stop_signal or ("SIGTERM" if resets else "")
    user = check_line(config.user, file, "config.user") or ("0" if resets else "")
    if stop:
        yield f"STOPSIGNAL {stop}"
    if config.healthcheck or resets:
        yield _healthcheck(config.healthcheck) if config.healthcheck else "HEALTHCHECK NONE"
    if user and not user.split(":")[0].isdigit():
        yield "# an account of the image itself, by the name that it has there\n# hadolint ignore=DL3066"
    if user:
        yield f"USER {quote_word(user)}"
    for instruction, argv in (("ENTRYPOINT", config.entrypoint), ("CMD", config.cmd)):
        if argv or resets:
            yield f"{instruction} {quote_argv(argv)}"


def _env(name: str, value: str, file: str, *, inherits: bool) -> str:
    check_line(value, file, f"config.env.{name}")
    if name != "PATH" or "$PATH" not in value:
        return quote_word(value)
    if not inherits:
        return quote_word(value.replace("$PATH", SYSTEM_PATH))
    parts = [quote_word(part) if part else "" for part in value.split("$PATH")]
    return f"${{PATH:-{SYSTEM_PATH}}}".join(parts)


def _pairs(instruction: str, pairs: list[tuple[str, str]]) -> str:
    return f"{instruction} " + " \\\n    ".join(f"{name}={value}" for name, value in pairs)


def _healthcheck(check: Healthcheck) -> str:
    times = {"interval": check.interval, "timeout": check.timeout, "start-period": check.start_period}
    options = [f"--{name}={seconds}s" for name, seconds in times.items() if seconds]  # buildah refuses 0s, the default
    return f"HEALTHCHECK {' '.join(options)} --retries={check.retries} \\\n    CMD {quote_argv(check.test)}"
