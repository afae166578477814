"""Read ``services.toml``: text to Services, with every problem reported at once."""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from buildkit.declare.gpu_request import parse_gpu_request
from buildkit.declare.nim_settings import PORT, USER, Nim
from buildkit.declare.observe_file import read_observe
from buildkit.declare.observe_settings import Metrics
from buildkit.declare.paths import check_target
from buildkit.declare.ports import PublishedPort, parse_port
from buildkit.declare.proxy_settings import ProxySettings
from buildkit.declare.rollout_file import read_rollout, read_scale
from buildkit.declare.schema import ValueLocation
from buildkit.declare.services import (
    FILE,
    Dependency,
    Environment,
    Exemption,
    NamedVolume,
    Reload,
    Service,
    Services,
    ServiceSecret,
    Watch,
)
from buildkit.declare.services_check import check_environment, check_service, report_unknown
from buildkit.declare.services_schema import SERVICES, SOURCES
from buildkit.declare.stage import Healthcheck
from buildkit.declare.toml import parse_toml
from buildkit.errors import DefinitionError, Problem

_RESOURCES = ("memory", "pids", "cpus", "tmpfs", "outgoing", "stop_seconds", "system_calls")
_ADDED_TO = ("env", "volumes")
_LARGEST_PREFIX = 28  # bits; fewer addresses are too few


def services_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``services.toml``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "buildkit services",
        "description": "Which services run together: services.toml",
        **SERVICES.schema(),
    }


def load_services(folder: Path, stages: Collection[str]) -> Services:
    """Read the services of the repository at ``folder``; ``stages`` are the names that it may use.

    Raises DefinitionError with every problem found, also if there is no such file.
    """
    try:
        return parse_services((folder / FILE).read_text("utf-8"), stages=stages)
    except FileNotFoundError:
        hint = f"write {FILE} beside pyproject.toml; docs/services.md shows one"
        raise DefinitionError(f"there is no {FILE}", hint=hint) from None
    except UnicodeDecodeError:
        raise DefinitionError(f"{FILE}: not UTF-8 text") from None


def parse_services(text: str, *, stages: Collection[str]) -> Services:
    """Read a services file; raises DefinitionError with every problem found."""
    problems: list[Problem] = []
    place = ValueLocation(FILE, problems)
    read = SERVICES.read(parse_toml(text, FILE), place) or {}
    tables = dict(read.get("services", ()))
    secrets = tuple(_secret(name, item, place.at("secrets").at(name)) for name, item in read.get("secrets", ()))
    names = [secret.name for secret in secrets]
    services = {}
    for name, table in tables.items():
        here = place.at("services").at(name)
        services[name] = _service(name, table, here, stages)
        check_service(services[name], here, stages=stages, secrets=names, services=tables)
    environments = []
    for name, item in read.get("environments", ()):
        here = place.at("environments").at(name)
        chosen = _chosen(item, services, here)
        overridden = {key: table for key, table in item.get("overrides", ()) if key in chosen}
        for key, table in overridden.items():
            below = here.at("overrides").at(key)
            if not place.at("services").at(key).faulty:
                chosen[key] = _service(key, _merge(tables[key], table), below, stages)
                check_service(chosen[key], below, stages=stages, secrets=names, services=tables)
        environment = Environment(name=name, services=tuple(chosen.values()), subnet=_subnet(item, here))
        check_environment(environment, here, known=tables)
        environments.append(environment)
    named = {environment.name for environment in environments}
    observe = read_observe(read.get("observe", {}), place.at("observe"), environments=named, secrets=names)
    if problems:
        raise DefinitionError.of(list(dict.fromkeys(problems)))
    return Services(
        file=FILE,
        services=tuple(services.values()),
        secrets=secrets,
        environments=tuple(environments),
        observe=observe,
    )


def _chosen(item: dict[str, Any], services: dict[str, Service], place: ValueLocation) -> dict[str, Service]:
    """Return the services of an environment by name; report names that are unknown or not chosen."""
    listed = item.get("services", ())
    for name in listed:
        report_unknown("service", name, services, place.at("services"))
    for name, _ in item.get("overrides", ()):
        if name not in listed:
            place.at("overrides").at(name).report("is not a service of this environment", "add it to `services`")
    return {name: services[name] for name in sorted(set(listed)) if name in services}


def _merge(table: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = table | changes
    for key in _ADDED_TO:
        merged[key] = tuple(sorted((dict(table.get(key, ())) | dict(changes.get(key, ()))).items()))
    for key, other in (("stage", "image"), ("image", "stage")):
        if key in changes and other not in changes:
            merged.pop(other, None)
    return merged


def _service(name: str, item: dict[str, Any], place: ValueLocation, stages: Collection[str]) -> Service:
    proxied = item.keys() & {"proxy", "replicas", "rollout", "scale"}
    nim = Nim(**item["nim"]) if "cache" in item.get("nim", {}) else None
    ports = tuple(_ports(item.get("ports", (str(PORT),) if nim else ()), place.at("ports")))
    return Service(
        name=name,
        stage=item.get("stage", ""),
        image=item.get("image", ""),
        user=item.get("user", USER if nim else ""),
        depends_on=tuple(Dependency(service=key, condition=value) for key, value in item.get("depends_on", ())),
        ports=ports,
        env=tuple(item.get("env", ())),
        secrets=tuple(sorted(set(item.get("secrets", ())))),
        volumes=tuple(_volumes(item.get("volumes", ()), place.at("volumes"))),
        command=item.get("command", ()),
        resources=tuple((key, item[key]) for key in _RESOURCES if key in item),
        gpu=parse_gpu_request(item.get("gpu"), place.at("gpu")),
        health=Healthcheck(**item["healthcheck"]) if "test" in item.get("healthcheck", {}) else None,
        exceptions=tuple(Exemption(**one) for one in item.get("exceptions", ()) if len(one) == len(("allow", "why"))),
        watch=tuple(_watches(item.get("watch", ()), place.at("watch"))),
        reload=Reload(**item.get("reload", {})),
        replicas=item.get("replicas", 0),
        proxy=ProxySettings(**item.get("proxy", {})) if proxied else None,
        rollout=read_rollout(item["rollout"], place.at("rollout"), stages) if "rollout" in item else None,
        scale=read_scale(item["scale"], place.at("scale")) if "scale" in item else None,
        nim=nim,
        metrics=_metrics(item["metrics"], ports, place.at("metrics")) if "metrics" in item else None,
    )


def _metrics(item: dict[str, Any], ports: tuple[PublishedPort, ...], place: ValueLocation) -> Metrics | None:
    if "port" in item or ports:
        return Metrics(**{"port": ports[0].number if ports else 0, **item})
    if not place.faulty:
        place.at("port").report("is missing", "the service has no `ports` to take the first of")
    return None


def _ports(texts: tuple[str, ...], place: ValueLocation) -> Iterator[PublishedPort]:
    for number, text in enumerate(texts):
        try:
            yield parse_port(text)
        except ValueError as error:
            place.at(number).report(str(error))


def _volumes(pairs: tuple[tuple[str, str], ...], place: ValueLocation) -> Iterator[NamedVolume]:
    for name, target in pairs:
        clean = posixpath.normpath(target)
        check_target(target, place.at(name))
        if clean == "/":
            place.at(name).report("would hide the whole image", "name a folder")
        yield NamedVolume(name=name, target=clean)


def _watches(items: tuple[dict[str, Any], ...], place: ValueLocation) -> Iterator[Watch]:
    for number, item in enumerate(items):
        if "sync" in item.get("action", "") and "target" not in item:
            place.at(number).report("needs `target`", "where the files lie in the container")
        if {"path", "action"} <= item.keys():
            yield Watch(**item)


def _secret(name: str, item: dict[str, Any], place: ValueLocation) -> ServiceSecret:
    if len(item) != 1 and not place.faulty:
        place.report(f"needs exactly one of {', '.join(SOURCES)}", "a secret has one source")
    elif item.get("generate") is False:
        place.at("generate").report("can only be true")
    return ServiceSecret(name=name, **item)


def _subnet(item: dict[str, Any], place: ValueLocation) -> str:
    text: str = item.get("subnet", "")
    if text:
        try:
            network = ipaddress.IPv4Network(text)
        except ValueError as error:
            place.at("subnet").report(str(error))
            return ""
        if not network.is_private or network.prefixlen > _LARGEST_PREFIX:
            place.at("subnet").report("must be a private network of at least 16 addresses", "such as 10.90.1.0/24")
    return text
