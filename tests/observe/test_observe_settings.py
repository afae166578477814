"""The table `observe` and the key `metrics` of services.toml: what they say, and each mistake with its key."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest

from buildkit.declare.observe_settings import Email, Metrics, Observe, Webhook
from buildkit.declare.services_file import parse_services, services_schema
from buildkit.errors import DefinitionError

VALIDATOR = jsonschema.Draft202012Validator(services_schema())
APP = """
[services.app]
stage = "runtime"
ports = ["8000"]
metrics = {}
[services.worker]
stage = "runtime"
metrics = { port = 9000, path = "/stats" }
[secrets.hook]
env = "HOOK"
[environments.production]
services = ["app", "worker"]
"""
FULL = f"""{APP}
[observe]
environment = "production"
retention = {{ days = 3, size = "500m" }}
thresholds = {{ latency-seconds = 0.25, restarts = 5 }}
ports = {{ prometheus = 0 }}
rules = ["ops/rules.yml"]
findings = "findings.json"
heartbeat-secret = "hook"
[observe.webhook]
url-secret = "hook"
[observe.email]
to = "on-call@example.org"
from = "xoe@example.org"
smarthost = "mail.example.org:587"
username = "xoe"
password-secret = "hook"
"""
MAIL = 'to = "a@b"\nfrom = "c@d"\nsmarthost = "m:25"\n'

# what stands in [observe], key, words of the problem and of the hint
BAD = {
    "unknown environment": ('environment = "prodution"', "observe.environment", "did you mean `production`?"),
    "unknown threshold": ("thresholds = { latency = 1 }", "observe.thresholds.latency", "latency-seconds"),
    "threshold too high": ("thresholds = { memory-ratio = 90 }", "observe.thresholds.memory-ratio", "1"),
    "unknown secret": ('webhook = { url-secret = "hok" }', "observe", "did you mean `hook`?"),
    "two addresses": ('webhook = { url = "https://x/", url-secret = "hook" }', "observe.webhook", "either `url`"),
    "no address": ('webhook = { token-secret = "hook" }', "observe.webhook", "either `url`"),
    "password in an address": (
        'webhook = { url = "https://u:p@x/" }',
        "observe.webhook.url",
        "and name that: url-secret",
    ),
    "no size": ('retention = { size = "2 GB" }', "observe.retention.size", "`2g`"),
    "half a log-in": ('[observe.email]\nusername = "x"\n' + MAIL, "observe.email", "both `username`"),
    "no server": ('email = { to = "a@b", from = "c@d" }', "observe.email.smarthost", "is missing"),
    "unknown part": ("ports = { grafana = 3000 }", "observe.ports.grafana", "unknown key"),
}
BROKEN_ELSEWHERE = ("unknown environment", "unknown secret", "half a log-in")  # JSON Schema cannot say them


def test_everything_is_read() -> None:
    services = parse_services(FULL, stages=("runtime",))
    assert {one.name: one.metrics for one in services.services} == {
        "app": Metrics(port=8000),
        "worker": Metrics(port=9000, path="/stats"),
    }
    assert services.observe == Observe(
        environment="production",
        days=3,
        size="500m",
        thresholds=(("latency_seconds", 0.25), ("restarts", 5.0)),
        ports=(("prometheus", 0),),
        rules=("ops/rules.yml",),
        findings="findings.json",
        heartbeat_secret="hook",
        webhook=Webhook(url_secret="hook"),
        email=Email(
            to="on-call@example.org",
            sender="xoe@example.org",
            smarthost="mail.example.org:587",
            username="xoe",
            password_secret="hook",
        ),
    )
    VALIDATOR.validate(tomllib.loads(FULL))
    assert parse_services(APP, stages=("runtime",)).observe == Observe()


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_has_its_key_and_the_right_word(case: str) -> None:
    text, key, words = BAD[case]
    whole = f"{APP}[observe]\n{text}\n"
    with pytest.raises(DefinitionError) as caught:
        parse_services(whole, stages=("runtime",))
    [problem] = caught.value.problems
    assert problem.key == key
    assert words in f"{problem.what} {problem.hint}"
    assert VALIDATOR.is_valid(tomllib.loads(whole)) is (case in BROKEN_ELSEWHERE)


def test_metrics_without_a_port_are_a_mistake() -> None:
    with pytest.raises(DefinitionError, match=r"metrics\.port`: is missing"):
        parse_services(APP.replace('ports = ["8000"]\n', ""), stages=("runtime",))


def test_an_environment_has_not_the_name_of_what_watches_it() -> None:
    text = APP.replace("environments.production", "environments.observe") + "[observe]\nretention = { days = 1 }\n"
    with pytest.raises(DefinitionError, match="has the name of what watches"):
        parse_services(text, stages=("runtime",))
