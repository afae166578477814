"""Read the table ``observe`` of ``services.toml``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from buildkit.declare.observe_settings import STACK, Email, Observe, Webhook
from buildkit.declare.schema import ValueLocation
from buildkit.declare.services_check import report_unknown


def read_observe(
    item: dict[str, Any], place: ValueLocation, *, environments: Collection[str], secrets: Collection[str]
) -> Observe:
    """Return what watches the project, given the names that it may use; report what is wrong."""
    observe = Observe(
        environment=item.get("environment", ""),
        thresholds=tuple(sorted((name, float(value)) for name, value in item.get("thresholds", {}).items())),
        ports=tuple(sorted(item.get("ports", {}).items())),
        rules=item.get("rules", ()),
        findings=item.get("findings", ""),
        webhook=_webhook(item["webhook"], place.at("webhook")) if "webhook" in item else None,
        email=_email(item["email"], place.at("email")) if "email" in item else None,
        heartbeat_secret=item.get("heartbeat_secret", ""),
        **item.get("retention", {}),
    )
    if observe.environment:
        report_unknown("environment", observe.environment, environments, place.at("environment"))
    if item and STACK in environments:
        place.report(f"the environment `{STACK}` has the name of what watches", "give yours another name")
    for name in observe.secrets:
        report_unknown("secret", name, secrets, place)
    return observe


def _webhook(item: dict[str, Any], place: ValueLocation) -> Webhook:
    if ("url" in item) == ("url_secret" in item) and not place.faulty:
        place.report("needs either `url` or `url-secret`")
    return Webhook(**item)


def _email(item: dict[str, Any], place: ValueLocation) -> Email | None:
    if ("username" in item) != ("password_secret" in item) and not place.faulty:
        place.report("needs both `username` and `password-secret`, or neither", "a server that asks for none is rare")
    if not {"to", "from", "smarthost"} <= item.keys():
        return None
    return Email(sender=item["from"], **{key: value for key, value in item.items() if key != "from"})
