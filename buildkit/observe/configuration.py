"""The configuration files of Prometheus and Alertmanager, from what ``services.toml`` says.

Formats: https://prometheus.io/docs/prometheus/2.53/configuration/configuration/ and
https://prometheus.io/docs/alerting/0.28/configuration/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from buildkit.declare.observe_settings import THRESHOLDS, Email, Observe, Webhook
from buildkit.observe.targets import ScrapeTarget
from buildkit.running.mounts import SECRETS
from buildkit.running.yaml_text import render_yaml

FOLDER = "/etc/xoe"  # where both have their files in their containers
RULES = ("containers", "gpus", "security", "service", "host", "watching")
_SERVICES = "services"  # the job of the project's own
_PATHS = {"node-exporter": "/-/healthy"}  # so its stage says
_HEARTBEAT = "Watchdog"  # fires always
Files = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPace:
    """How often is asked and evaluated, and how long an answer may take; how long Alertmanager gathers alerts.

    ``again`` is after how long it tells once more of what still fires.
    """

    ask: str = "15s"
    patience: str = "10s"
    gather: str = "10s"
    gather_more: str = "1m"
    again: str = "4h"


def render_prometheus(
    targets: Sequence[ScrapeTarget], names: tuple[str, str], pace: StackPace, places: Mapping[str, str]
) -> str:
    """Return ``prometheus.yml``; ``names`` are the project and the environment that is watched.

    ``places`` are the addresses of the parts of the stack, Alertmanager among them.
    """
    project, environment = names
    jobs = [_job(name, [_part(name, place)]) for name, place in places.items()]
    own = [_watched(target, project, environment) for target in targets]
    return render_yaml(
        {
            "global": {
                "scrape_interval": pace.ask,
                "scrape_timeout": pace.patience,
                "evaluation_interval": pace.ask,
                "external_labels": {"project": project},
            },
            "rule_files": [f"{name}.yml" for name in ("thresholds", *RULES)] + ["own-*.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [places["alertmanager"]]}]}]},
            "scrape_configs": [*jobs, *([_job(_SERVICES, own)] if own else [])],
        }
    )


def _job(name: str, groups: list[dict[str, Any]]) -> dict[str, Any]:
    limits = {"sample_limit": 50_000, "label_limit": 40, "label_value_length_limit": 1024, "body_size_limit": "32MB"}
    return {"job_name": name, "honor_labels": False, **limits, "static_configs": groups}


def _part(name: str, place: str) -> dict[str, Any]:
    path = {"__metrics_path__": _PATHS[name]} if name in _PATHS else {}
    return {"targets": [place], "labels": {**path, "instance": name}}


def _watched(target: ScrapeTarget, project: str, environment: str) -> dict[str, Any]:
    labels = {
        "__metrics_path__": target.path,
        "project": project,
        "environment": environment,
        "service": target.service,
        "instance": target.instance,
        **({"may_rest": "true"} if target.may_rest else {}),
    }
    return {"targets": [target.address], "labels": labels}


def render_thresholds(observe: Observe) -> str:
    """Return the thresholds as rules that record a constant each: rules and dashboards read them."""
    chosen = dict(observe.thresholds)
    rules = [
        {"record": f"xoe:threshold:{one.name}", "expr": f"vector({chosen.get(one.name, one.default):g})"}
        for one in THRESHOLDS
    ]
    return render_yaml({"groups": [{"name": "thresholds", "rules": rules}]})


def load_rules() -> Files:
    """Return names and texts of the files of rules that this package brings."""
    folder = resources.files("buildkit.observe") / "rules"
    return tuple((f"{name}.yml", (folder / f"{name}.yml").read_text("utf-8")) for name in RULES)


def render_alertmanager(observe: Observe, pace: StackPace, secrets: str = SECRETS) -> str:
    """Return ``alertmanager.yml``; the files of its secrets lie in the folder ``secrets``."""
    told = list(_receivers(observe, secrets))
    heartbeat = {"url_file": f"{secrets}/{observe.heartbeat_secret}", "send_resolved": False}
    receivers = [
        {"name": "nobody"},
        *([{"name": "people", **dict(told)}] if told else []),
        *([{"name": "heartbeat", "webhook_configs": [heartbeat]}] if observe.heartbeat_secret else []),
    ]
    alive = {
        "receiver": "heartbeat" if observe.heartbeat_secret else "nobody",
        "matchers": [f'alertname="{_HEARTBEAT}"'],
        "group_wait": "0s",
        "group_interval": "1m",
        "repeat_interval": "1m",
    }
    return render_yaml(
        {
            "route": {
                "receiver": "people" if told else "nobody",
                "group_by": ["alertname", "name", "service"],
                "group_wait": pace.gather,
                "group_interval": pace.gather_more,
                "repeat_interval": pace.again,
                "routes": [alive],
            },
            "inhibit_rules": [_inhibited()],
            "receivers": receivers,
        }
    )


def _inhibited() -> dict[str, Any]:
    """A service that is down is not slow, too."""
    return {
        "source_matchers": ['alertname="TargetDown"', 'severity="critical"'],
        "target_matchers": ['severity="warning"'],
        "equal": ["instance"],
    }


def _receivers(observe: Observe, secrets: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    if observe.webhook:
        yield "webhook_configs", [_webhook(observe.webhook, secrets)]
    if observe.email:
        yield "email_configs", [_email(observe.email, secrets)]


def _webhook(webhook: Webhook, secrets: str) -> dict[str, Any]:
    address = {"url": webhook.url} if webhook.url else {"url_file": f"{secrets}/{webhook.url_secret}"}
    if not webhook.token_secret:
        return {**address, "send_resolved": True}
    token = {"authorization": {"type": "Bearer", "credentials_file": f"{secrets}/{webhook.token_secret}"}}
    return {**address, "send_resolved": True, "http_config": token}


def _email(email: Email, secrets: str) -> dict[str, Any]:
    login: dict[str, str] = {}
    if email.username:
        login = {"auth_username": email.username, "auth_password_file": f"{secrets}/{email.password_secret}"}
    return {"to": email.to, "from": email.sender, "smarthost": email.smarthost, "send_resolved": True, **login}
