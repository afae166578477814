"""What an inference container (NIM) lacks, and which of its service's keys contradict each other."""

from __future__ import annotations

from collections.abc import Collection

from buildkit.declare.gpu_request import parse_size
from buildkit.declare.nim_settings import CACHE, PORT, SHARED_MEMORY, USER, Nim
from buildkit.declare.schema import ValueLocation
from buildkit.declare.services import Service


def check_nim(service: Service, place: ValueLocation, secrets: Collection[str]) -> None:
    """Report what an inference container lacks, and what its other keys contradict."""
    nim, below = service.nim, place.at("nim")
    if nim is None:
        return
    if service.stage:
        place.at("nim").report("is for an `image`", "a stage of yours has settings of its own")
    if nim.key and nim.key not in secrets:
        below.at("key").report(f"there is no secret `{nim.key}`", f"add [secrets.{nim.key}]")
    if service.gpu is None and not place.at("gpu").faulty:
        place.at("gpu").report("is missing", 'gpu = { count = 1 }, or gpu = "none" if it runs on the CPU')
    if not all(part.isdecimal() for part in service.user.split(":")):
        place.at("user").report("must be numbers: the cache belongs to them", f"the images' is {USER}")
    if not any((port.number, port.protocol) == (PORT, "tcp") for port in service.ports):
        place.at("ports").report(f"lacks {PORT}, on which it listens", f'ports = ["9000:{PORT}"]')
    if any(volume.target == CACHE or volume.name == nim.cache for volume in service.volumes):
        place.at("volumes").report(f"`nim.cache` is the volume at {CACHE}", "leave it out here")
    _check_memory(service, nim, place)
    _check_network(service, nim, place)


def _check_memory(service: Service, nim: Nim, place: ValueLocation) -> None:
    resources = dict(service.resources)
    if SHARED_MEMORY in dict(resources.get("tmpfs", ())):
        place.at("tmpfs").report(f"{SHARED_MEMORY} has another size in `nim`", "set nim.shared-memory")
    if "memory" not in resources:
        hint = 'as the model card says, shared memory included: memory = "64g"'
        place.at("memory").report("is missing", hint)
    elif parse_size(resources["memory"]) <= parse_size(nim.shared_memory):
        what = f"must be more than the shared memory, which is part of it ({nim.shared_memory})"
        place.at("memory").report(what, "raise it, or lower nim.shared-memory")


def _check_network(service: Service, nim: Nim, place: ValueLocation) -> None:
    outgoing = dict(service.resources).get("outgoing")
    if nim.air_gapped and nim.key:
        place.at("nim").at("key").report("is of no use with `air-gapped`", "leave one of them out")
    if nim.air_gapped and outgoing:
        place.at("outgoing").report("contradicts nim.air-gapped", "leave one of them out")
    if not nim.air_gapped and outgoing is False:
        place.at("outgoing").report("keeps it from downloading its model", "set nim.air-gapped = true")
