"""What a service of a compose file says about its image: command, ports, environment, health check, volumes. Pure.

A service says how an image is run, an image how it is by default: what can be a default becomes the image's, the rest
is left over, with what a person can do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from buildkit.adopt.compose import BuiltService, ComposeFile, as_pairs, interpolate
from buildkit.adopt.draft import ImageDraft, Leftover
from buildkit.adopt.image_config import SECRET_NAME, parse_seconds, without_conda
from buildkit.adopt.yamlfile import as_list, as_table
from buildkit.declare.written_secrets import find_secret

_SIZE = re.compile(r"(\d+)\s*([bkmg])b?", re.IGNORECASE)
_SETTLED = {
    "build", "image", "restart", "container_name", "read_only", "init", "platform", "pull_policy", "stdin_open", "tty",
    "security_opt", "cap_drop", "healthcheck", "labels", "develop", "expose", "profiles", "hostname", "logging",
}  # fmt: skip
_START = "nox -s run-{service} -- --option="
_ADVICE = {
    "depends_on": "`depends-on` in services.toml starts services in their order (docs/services.md)",
    "env_file": f"variables are given when a container starts: {_START}--env-file={{value}}",
    "networks": "a container has a network of its own, which is closed; `outgoing = true` in [running] opens it",
    "network_mode": "its network is closed: `outgoing = true` in [running] opens it, or --option=--network={value}",
    "secrets": f"give them when a container starts: {_START}--secret=NAME",
    "configs": f"copy the file into the image, or mount it: {_START}--volume=FILE:PATH",
    "extra_hosts": f"give it when a container starts: {_START}--add-host={{value}}",
    "devices": f"give it when a container starts: {_START}--device={{value}}",
    "gpus": f"give it when a container starts: {_START}--device=nvidia.com/gpu=all",
    "runtime": f"give it when a container starts: {_START}--device=nvidia.com/gpu=all",
    "extends": "what it extends is not read: copy the keys into the service, or into the stage file",
    "cap_add": f"a container has no capability: {_START}--cap-add={{value}}",
    "privileged": f"a container has no capability; give it the ones that it needs: {_START}--cap-add=NAME",
    "ulimits": f"give it when a container starts: {_START}--ulimit=NAME=NUMBER",
    "shm_size": 'write `tmpfs = {{ "/tmp" = "64m", "/dev/shm" = "{value}" }}` into [running]',
    "deploy": f"memory and pids of `resources.limits` are taken; GPUs: {_START}--device=nvidia.com/gpu=all",
}


def apply_service(image: ImageDraft, service: BuiltService, file: ComposeFile) -> tuple[Leftover, ...]:
    """Put what a service says into the draft of its image; return what it cannot hold."""
    return tuple(_Applying(image, service, file).apply())


class _Applying:
    def __init__(self, image: ImageDraft, service: BuiltService, file: ComposeFile) -> None:
        self._image = image
        self._service = service
        self._file = file

    def apply(self) -> Iterator[Leftover]:
        readers = {
            "command": self._command, "entrypoint": self._command, "ports": self._ports,
            "environment": self._environment,
            "volumes": self._volumes, "working_dir": self._text, "user": self._text, "stop_signal": self._text,
            "mem_limit": self._limit, "pids_limit": self._limit, "stop_grace_period": self._limit, "tmpfs": self._tmpfs,
            "deploy": self._deploy,
        }  # fmt: skip
        keys = self._service.keys
        if isinstance(keys.get("healthcheck"), dict):
            self._healthcheck(keys["healthcheck"])
        for key in sorted(keys, key=lambda key: key != "entrypoint"):  # which drops the command of the image
            if reader := readers.get(key):
                yield from reader(key, keys[key])
            elif key not in _SETTLED and not str(key).startswith("x-"):
                yield self._leave(
                    str(key), _show(keys[key]), _ADVICE.get(str(key), "write it where the container is run")
                )

    def _leave(self, key: str, shown: str, advice: str, *below: str) -> Leftover:
        line = self._file.yaml.line("services", self._service.name, key, *below)
        text = f"{self._service.name}.{key}: {shown}"
        told = advice.format(service=self._image.name, value=shown)
        return Leftover(file=self._file.path, line=line, text=text[:160], advice=told)

    def _command(self, key: str, value: object) -> Iterator[Leftover]:
        words = tuple(map(str, value)) if isinstance(value, list) else tuple(shlex.split(str(value or "")))
        filled = [interpolate(word) for word in words]
        if any(word is None for word in filled):
            yield self._leave(key, _show(value), "a variable has no value here: write the command into the stage file")
            return
        command = without_conda(tuple(word for word in filled if word is not None))
        if key == "entrypoint":
            self._image.entrypoint, self._image.cmd = command, ()
        elif value is not None:
            self._image.cmd = command

    def _ports(self, key: str, value: object) -> Iterator[Leftover]:
        for number, item in enumerate(as_list(value)):
            target = as_table(item).get("target") or interpolate(str(item)) or ""
            port, _, protocol = str(target).rpartition(":")[2].partition("/")
            if port.isdigit():
                self._image.ports[f"{port}/udp" if protocol == "udp" else port] = None
            else:
                yield self._leave(
                    key, str(item), "ports of the image are single numbers: `ports` of [config]", str(number)
                )

    def _environment(self, key: str, value: object) -> Iterator[Leftover]:
        for name, text in as_pairs(value):
            filled = interpolate(text) if text is not None else None
            is_secret = SECRET_NAME.fullmatch(name) or find_secret(name, filled or "")
            if filled is None or is_secret:
                why = "a secret stays out of the image" if is_secret else "it has no value here"
                advice = f"{why}: nox -s run-{{service}} -- --option=--env={name}"
                yield self._leave(key, name, advice, name)
            else:
                self._image.env[name] = filled

    def _volumes(self, key: str, value: object) -> Iterator[Leftover]:
        for number, item in enumerate(as_list(value)):
            if isinstance(item, dict):
                kind, source, target = item.get("type"), str(item.get("source", "")), str(item.get("target", ""))
            else:
                parts = str(item).split(":")
                source, target = (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
                kind = "bind" if source.startswith((".", "/", "~", "$")) else "volume"
            if kind == "volume" and target.startswith("/"):
                self._image.volumes[target] = None
            if kind != "volume" or source:
                is_bind = kind == "bind"
                why = "the files of the host are not in the image" if is_bind else "a name is for services.toml, or"
                advice = f"{why}: nox -s run-{{service}} -- --option=--volume={source}:{target}"
                yield self._leave(key, f"{source}:{target}", advice, str(number))

    def _text(self, key: str, value: object) -> Iterator[Leftover]:
        text = interpolate(str(value))
        if text is None:
            yield self._leave(key, str(value), "a variable has no value here: write it into [config]")
        elif key == "user":
            self._image.user = text.partition(":")[0]
        elif key == "working_dir":
            self._image.workdir = text
        else:
            self._image.stop_signal = text

    def _limit(self, key: str, value: object) -> Iterator[Leftover]:
        running = self._image.running
        if key == "pids_limit" and str(value).isdigit():
            running["pids"] = int(str(value))
        elif key == "mem_limit" and (size := _SIZE.fullmatch(str(value))):
            running["memory"] = f"{size[1]}{size[2].lower()}"
        elif key == "stop_grace_period" and (seconds := parse_seconds(str(value))):
            running["stop-seconds"] = seconds
        else:
            yield self._leave(key, str(value), "write it into [running] (docs/running.md)")

    def _tmpfs(self, key: str, value: object) -> Iterator[Leftover]:
        for item in value if isinstance(value, list) else (value,):
            path, _, options = str(item).partition(":")
            size = _SIZE.search(options.replace("size=", ""))
            table = f'{{{{ "/tmp" = "64m", "{path}" = "{size[0] if size else "64m"}" }}}}'
            yield self._leave(key, str(item), f"write `tmpfs = {table}` into [running]")

    def _deploy(self, key: str, value: object) -> Iterator[Leftover]:
        resources = as_table(as_table(value).get("resources"))
        limits = as_table(resources.get("limits"))
        for name, as_key in (("memory", "mem_limit"), ("pids", "pids_limit")):
            if name in limits:
                yield from self._limit(as_key, limits[name])
        if limits.keys() - {"memory", "pids"} or resources.keys() - {"limits"}:
            yield self._leave(key, _show(value), _ADVICE["deploy"])

    def _healthcheck(self, value: Mapping[str, object]) -> None:
        image, test = self._image, value.get("test")
        if value.get("disable") is True or test in (["NONE"], "NONE"):
            image.healthcheck = ()
            return
        if isinstance(test, str):
            image.healthcheck = ("/bin/sh", "-c", test)
        elif isinstance(test, list) and test[:1] == ["CMD-SHELL"]:
            image.healthcheck = ("/bin/sh", "-c", str(test[-1]))
        elif isinstance(test, list) and test[:1] == ["CMD"]:
            image.healthcheck = tuple(map(str, test[1:]))
        for key, name in (("interval", "interval"), ("timeout", "timeout"), ("start_period", "start-period")):
            if (seconds := parse_seconds(str(value.get(key, "")))) is not None:
                image.health_times[name] = seconds
        if str(value.get("retries", "")).isdigit():
            image.health_times["retries"] = int(str(value["retries"]))


def _show(value: object) -> str:
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)
