"""What watches a project: the metrics of a service, and the table ``observe`` of ``services.toml``."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.declare.schema import IntegerSchema, KeySchema, ListSchema, NumberSchema, TableSchema, TextSchema
from buildkit.declare.stage_schema import RELATIVE, SECRET_NAME

STACK = "observe"  # the name of its environment
PORTS = {"prometheus": 9090, "alertmanager": 9093, "node-exporter": 9100, "monitor": 9469}
PUBLISHED = ("prometheus", "alertmanager", "monitor")  # on loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Where a service answers in Prometheus' text format: a ``port`` of its container, and a path."""

    port: int
    path: str = "/metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """From where on something is worth an alert; ``name`` as in a series, ``meaning`` with its unit."""

    name: str
    default: float
    meaning: str
    most: float = 1.0

    @property
    def key(self) -> str:
        """The key in ``services.toml``."""
        return self.name.replace("_", "-")


THRESHOLDS = (
    Threshold(name="memory_ratio", default=0.9, meaning="memory in use, of the container's limit"),
    Threshold(name="throttled_ratio", default=0.25, meaning="periods in which a container waited for its share of CPU"),
    Threshold(name="memory_stalled_ratio", default=0.1, meaning="time in which all of a container waited for memory"),
    Threshold(name="threads_ratio", default=0.9, meaning="processes and threads, of the container's limit"),
    Threshold(name="restarts", default=2, meaning="restarts of a container in 15 minutes", most=1000),
    Threshold(name="gpu_memory_ratio", default=0.95, meaning="memory of a GPU in use"),
    Threshold(name="gpu_temperature_celsius", default=85, meaning="temperature of a GPU in °C", most=120),
    Threshold(name="latency_seconds", default=1.0, meaning="seconds in which 95 % of requests are answered", most=3600),
    Threshold(name="error_ratio", default=0.01, meaning="requests answered with an error of the service (5xx)"),
    Threshold(name="refused_ratio", default=0.05, meaning="requests refused because the service is busy (429, 503)"),
    Threshold(name="drift_psi", default=0.2, meaning="population stability index of a model's signal", most=100),
    Threshold(name="disk_free_ratio", default=0.1, meaning="space that is left where containers are kept"),
    Threshold(name="host_memory_free_ratio", default=0.05, meaning="memory of the host that is available"),
    Threshold(name="series", default=200_000, meaning="series that Prometheus holds", most=1e9),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A receiver of alerts over HTTP: its address, or the secret that is its address; a secret token to send along."""

    url: str = ""
    url_secret: str = ""
    token_secret: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """A receiver of alerts by mail: ``smarthost`` is ``HOST:PORT`` of a server that takes mail, by TLS."""

    to: str
    sender: str
    smarthost: str
    username: str = ""
    password_secret: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """What is watched, for how long it is kept, and who is told.

    ``environment`` is the one whose services are asked. Metrics are kept for ``days``, in at most ``size`` (``2g``).
    ``thresholds`` and ``ports`` of the host (0: any) are those that differ, by name; ``rules`` are files of the project
    with further rules. ``heartbeat_secret`` is the address that is called for as long as alerts work. ``findings`` is
    the file of the project that `audit-running` writes.
    """

    environment: str = ""
    days: int = 15
    size: str = "2g"
    thresholds: tuple[tuple[str, float], ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    rules: tuple[str, ...] = ()
    webhook: Webhook | None = None
    email: Email | None = None
    heartbeat_secret: str = ""
    findings: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that Alertmanager reads, by their names in the file."""
        webhook, email = self.webhook or Webhook(), self.email.password_secret if self.email else ""
        named = (webhook.url_secret, webhook.token_secret, email, self.heartbeat_secret)
        return tuple(sorted({name for name in named if name}))

    def port(self, name: str) -> int:
        """Return the port of the host at which a part of the stack is reached; 0 for any that is free."""
        return dict(self.ports).get(name, PORTS[name])

    @property
    def tells(self) -> bool:
        """Whether anybody is told."""
        return bool(self.webhook or self.email or self.heartbeat_secret)


NOTHING = Observe()
_SECRET = TextSchema(SECRET_NAME, "a secret's name (lower case letters, digits, `_`, `-`)")
_ADDRESS = TextSchema(r"[^@\s<>,]+@[^@\s<>,]+", "a mail address (`me@example.org`)")
METRICS = TableSchema(
    {
        "port": KeySchema(IntegerSchema(1, 65535), "port of the container (default: the first of `ports`)"),
        "path": KeySchema(TextSchema(r"/[^\0\s]*", "a path (`/metrics`)"), "path of the metrics (default: /metrics)"),
    }
)
_WHOLE = "declare the whole address in [secrets], and name that: url-secret"
_WEBHOOK = TableSchema(
    {
        "url": KeySchema(
            TextSchema(r"https?://[^\s@\0]+", "an address (`https://…`) without a password", instead=_WHOLE), "address"
        ),
        "url-secret": KeySchema(_SECRET, "secret that is the address, if whoever knows it may write there"),
        "token-secret": KeySchema(_SECRET, "secret to send along (`Authorization: Bearer …`)"),
    },
    rules={"oneOf": [{"required": ["url"]}, {"required": ["url-secret"]}]},
)
_EMAIL = TableSchema(
    {
        "to": KeySchema(_ADDRESS, "who gets mail", required=True),
        "from": KeySchema(_ADDRESS, "who sends it", required=True),
        "smarthost": KeySchema(
            TextSchema(r"[A-Za-z0-9.-]+:[0-9]{1,5}", "HOST:PORT"), "server that takes mail", required=True
        ),
        "username": KeySchema(TextSchema(r"[^\0\s]+", "a name"), "name to log in with"),
        "password-secret": KeySchema(_SECRET, "secret to log in with"),
    }
)
OBSERVE = TableSchema(
    {
        "environment": KeySchema(
            TextSchema(r"[a-z][a-z0-9-]{0,30}", "a name (lower case letters, digits, `-`)"),
            "environment whose services are watched (default: the only one)",
        ),
        "retention": KeySchema(
            TableSchema(
                {
                    "days": KeySchema(IntegerSchema(1, 3650), "days (default: 15)"),
                    "size": KeySchema(TextSchema(r"[1-9][0-9]*[mg]", "a size (`2g`)"), "most bytes (default: 2g)"),
                }
            ),
            "for how long, and in how much space, metrics are kept; the oldest go first",
        ),
        "thresholds": KeySchema(
            TableSchema({one.key: KeySchema(NumberSchema(0, one.most), one.meaning) for one in THRESHOLDS}),
            "from where on there are alerts; docs/alerts.md has the defaults",
        ),
        "ports": KeySchema(
            TableSchema({one: KeySchema(IntegerSchema(0, 65535), f"port of {one} on loopback") for one in PUBLISHED}),
            "ports of the host that differ; 0 is any that is free",
        ),
        "rules": KeySchema(ListSchema(RELATIVE), "files with further rules for Prometheus"),
        "findings": KeySchema(RELATIVE, "file that `nox -s audit-running -- --stream --output FILE` writes"),
        "webhook": KeySchema(_WEBHOOK, "who is told by HTTP"),
        "email": KeySchema(_EMAIL, "who is told by mail"),
        "heartbeat-secret": KeySchema(
            _SECRET, "secret that is an address to call for as long as alerts work: a dead man's switch"
        ),
    }
)
