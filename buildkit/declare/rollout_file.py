"""Read `[services.NAME.rollout]` and `[services.NAME.scale]`: tables to values, with every problem reported."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from buildkit.declare.condition import parse_condition
from buildkit.declare.rollout import Promotion, Rollout, Scale, ScaleRate, Version
from buildkit.declare.schema import ValueLocation, suggest_word

_ALL = 1000
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_UP, _DOWN = {"window": 0, "replicas": 4, "percent": 100}, {"window": 300, "percent": 100}


def read_rollout(item: dict[str, Any], place: ValueLocation, stages: Collection[str]) -> Rollout | None:
    """Return the versions of a service, None after a report."""
    versions = tuple(Version(name=name, **table) for name, table in item.get("versions", ()))
    names = [version.name for version in versions]
    split = tuple((name, round(share * 10)) for name, share in item.get("split", ()))
    for version in versions:
        _check_version(version, place.at("versions").at(version.name), stages)
    _check_split(item, place, names)
    control = item.get("control") or _largest(split, place)
    promote = _read_promotion(item["promote"], place.at("promote")) if "promote" in item else None
    if promote and len(split) != len(("control", "candidate")):
        place.at("promote").report(
            f"needs one candidate beside `{control}`", "give `split` two versions; those that only wait need no share"
        )
    if place.faulty:
        return None
    if promote and promote.steps[-1] < dict(split)[next(name for name, _ in split if name != control)]:
        place.at("promote").at("steps").report("end below the share that the candidate begins with")
    return Rollout(
        by=item.get("by", "address"), versions=versions, split=split, control=control,
        shadow=item.get("shadow", ""), promote=promote,
    )  # fmt: skip


def _check_version(version: Version, place: ValueLocation, stages: Collection[str]) -> None:
    if version.stage and version.image:
        place.report("needs only one of `stage` and `image`")
    if version.stage and version.stage not in stages:
        place.at("stage").report(f"there is no stage `{version.stage}`", suggest_word(version.stage, list(stages)))


def _check_split(item: dict[str, Any], place: ValueLocation, names: list[str]) -> None:
    """Report shares that are too fine or do not add up, and names that are no version."""
    shares = dict(item.get("split", ()))
    for key, found in (("split", list(shares)), ("control", [item.get("control")]), ("shadow", [item.get("shadow")])):
        for name in filter(None, found):
            if name not in names:
                hint = suggest_word(name, names) or f"versions are {', '.join(names) or 'none'}"
                place.at(key).report(f"there is no version `{name}`", hint)
    for name, share in shares.items():
        if round(share * 10) != round(share * 10, 6):
            place.at("split").at(name).report(f"{share:g} is finer than tenths of a per cent")
    total = sum(round(share * 10) for share in shares.values())
    if shares and total != _ALL and not place.at("split").faulty:
        place.at("split").report(f"the shares add up to {total / 10:g} %, not 100 %")
    if (control := item.get("control")) and shares and control not in shares and control in names:
        place.at("control").report(f"`{control}` has no share", "give it one in `split`, which may be 0")
    if (shadow := item.get("shadow")) and shadow in shares:
        place.at("shadow").report(
            f"`{shadow}` has a share of its own", "a shadow answers nobody: take it out of `split`"
        )


def _largest(split: tuple[tuple[str, int], ...], place: ValueLocation) -> str:
    most = max((share for _, share in split), default=0)
    names = [name for name, share in split if share == most]
    if len(names) > 1:
        place.report(f"which version is the control: {', '.join(names)}?", f'control = "{names[0]}"')
    return names[0] if names else ""


def _read_promotion(item: dict[str, Any], place: ValueLocation) -> Promotion | None:
    steps = tuple(round(step * 10) for step in item.get("steps", ()))
    if list(steps) != sorted(set(steps)):
        place.at("steps").report("must grow from step to step")
    when, after = item.get("when", ""), item.get("after", "")
    try:
        checks = parse_condition(when) if when else ()
    except ValueError as error:
        place.at("when").report(str(error))
        return None
    if not (after and when and steps):
        return None
    return Promotion(seconds=int(after[:-1]) * _UNITS[after[-1]], checks=checks, steps=steps)


def read_scale(item: dict[str, Any], place: ValueLocation) -> Scale | None:
    """Return how a service is scaled, None after a report."""
    if not {"min", "max", "target"} <= item.keys():
        return None
    if item["min"] > item["max"]:
        place.at("max").report(f"{item['max']} is less than `min`, which is {item['min']}")
    targets = tuple(_targets(item["target"]))
    if not targets and not place.at("target").faulty:
        place.at("target").report("names nothing to scale by", "target = { in-flight = 8 }")
    return Scale(
        least=item["min"],
        most=item["max"],
        targets=targets,
        up=_read_rate(item.get("up", {}), _UP),
        down=_read_rate(item.get("down", {}), _DOWN),
        tolerance=item.get("tolerance", 0.1),
        prometheus=item.get("prometheus", ""),
    )


def _targets(item: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for key, name in (("in_flight", "in-flight"), ("queue", "queue"), ("cpu", "cpu"), ("gpu", "gpu")):
        if key in item:
            yield name, item[key]
    for name, value in item.get("metrics", ()):
        yield f"metric:{name}", value


def _read_rate(item: dict[str, Any], default: dict[str, Any]) -> ScaleRate:
    """Return a rate; what is not said is as by default, the policies together."""
    said = item.keys() & {"replicas", "percent"}
    kept = {key: value for key, value in default.items() if not said or key == "window"}
    return ScaleRate(**(kept | item))
