"""Group wheels into layers, and order layers.

Local storage extracts everything above a changed layer again, so layers are ordered by change rate over size: large
layers that seldom change lie low. That order minimises the expected bytes to extract again when layers change
independently (the exchange argument of Smith's rule). Sizes and rates count by powers of two, so that neither a
slightly larger version of a wheel nor one more wheel in a bin moves a layer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Iterable, Sequence

from buildkit.locks.pins import Artifact
from buildkit.plan.spec import Kind, PackWheels, Spec

MOST_HEAVY = 32
_RANK = {Kind.ROOT: 0, Kind.IMAGE: 0, Kind.CONTAINERFILE: 0, Kind.RUN: 0, Kind.PYTHON: 1, Kind.PREFIX: 2}


def group_wheels(
    artifacts: Sequence[Artifact], *, heavy: int, bins: int, apart: Container[str] = ()
) -> list[tuple[str, tuple[Artifact, ...]]]:
    """Return named groups: each wheel of at least ``heavy`` bytes alone (at most the 32 heaviest), others in ``bins``.

    Those whose names are in ``apart`` are alone, whatever their size.

    A wheel's bin depends only on its name, so that adding, removing or upgrading one changes one bin. Wheels that are
    compiled here count as light, because their size is not known beforehand.
    """
    ordered = sorted(artifacts, key=lambda a: a.name)
    weighty = [a for a in ordered if a.is_wheel and a.size >= heavy]
    alone = set(sorted(weighty, key=lambda a: (-_bucket(a.size), a.name))[:MOST_HEAVY])
    alone |= {a for a in ordered if a.name in apart}
    groups = [(a.name, (a,)) for a in ordered if a in alone]
    shared: dict[int, list[Artifact]] = {}
    for artifact in ordered:
        if artifact not in alone:
            shared.setdefault(bin_of(artifact.name, bins), []).append(artifact)
    return groups + [(f"bin-{number}", tuple(members)) for number, members in sorted(shared.items())]


def bin_of(name: str, bins: int) -> int:
    """Return the bin of a normalised project name, 0 to ``bins`` - 1."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % bins


def order_layers(specs: Iterable[Spec], prefer: Sequence[str] = ()) -> tuple[Spec, ...]:
    """Sort layers from the lowest up; each key once, under the first of its names in alphabetical order.

    Layers of preferred projects lie above all other wheels, the first project on top, so that their files win.
    """
    unique = {spec.key: spec for spec in sorted(specs, key=lambda spec: spec.name, reverse=True)}
    layers = sorted(unique.values(), key=_position)
    above = [spec for project in reversed(prefer) for spec in layers if project_of(spec) == project]
    if not above:
        return tuple(layers)
    others = [spec for spec in layers if spec not in above]
    top = max((number for number, spec in enumerate(others, 1) if spec.kind is Kind.WHEELS), default=0)
    return (*others[:top], *above, *others[top:])


def project_of(spec: Spec) -> str:
    """Return the project of a layer that holds one wheel; empty for any other layer."""
    wheels = spec.work.wheels if isinstance(spec.work, PackWheels) else ()
    return wheels[0].name if len(wheels) == 1 else ""


def _position(spec: Spec) -> tuple[int, int, str]:
    return _RANK.get(spec.kind, 3), math.frexp(spec.rate)[1] - _bucket(spec.weight), spec.name


def _bucket(size: int) -> int:
    return max(size, 1).bit_length()
