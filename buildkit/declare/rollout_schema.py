"""The schemas of `[services.NAME.rollout]` and `[services.NAME.scale]`."""

from __future__ import annotations

from buildkit.declare.image_names import PINNED_IMAGE
from buildkit.declare.schema import (
    IntegerSchema,
    KeySchema,
    ListSchema,
    MapSchema,
    NumberSchema,
    TableSchema,
    TextSchema,
)
from buildkit.declare.stage_schema import ARGV, STAGE_NAME, STAGE_NAME_WORDS, TEXT
from buildkit.declare.written_secrets import IN_SERVICES

VERSION_NAME = r"[a-z0-9](?:[a-z0-9-]{0,28}[a-z0-9])?"
BY = r"address|cookie|(?:header|cookie):[A-Za-z][A-Za-z0-9_-]{0,60}"
DURATION = r"[1-9][0-9]{0,6}[smhd]"
MOST_REPLICAS = 64

_VERSION_NAME = TextSchema(VERSION_NAME, "a version's name (lower case letters, digits, `-`)")
_SHARE = NumberSchema(0, 100)
_VERSION = TableSchema(
    {
        "stage": KeySchema(
            TextSchema(STAGE_NAME, STAGE_NAME_WORDS), "stage whose image it runs (default: the service's)"
        ),
        "image": KeySchema(
            TextSchema(PINNED_IMAGE, "an image pinned by digest (NAME@sha256:...)"),
            "image by digest, such as an earlier build (default: the service's)",
        ),
        "command": KeySchema(ARGV, "argument list that replaces the image's (default: the service's)"),
        "env": KeySchema(
            MapSchema(TextSchema(instead=IN_SERVICES)), "environment variables that are added to the service's"
        ),
    }
)
_PROMOTE = TableSchema(
    {
        "after": KeySchema(TextSchema(DURATION, "a time (`30m`)"), "how long each step lasts at least", required=True),
        "when": KeySchema(
            TEXT, "comparisons joined by `and`: `error_rate < 0.1% and p95 < 1.1 * control`", required=True
        ),
        "steps": KeySchema(
            ListSchema(NumberSchema(0.1, 100), least=1), "per cent of users at each step, growing", required=True
        ),
    }
)
ROLLOUT = TableSchema(
    {
        "by": KeySchema(
            TextSchema(BY, "`address`, `cookie`, `cookie:NAME` or `header:NAME`"),
            "what a user is recognised by (default: address); `cookie` is one that the proxy sets",
        ),
        "versions": KeySchema(
            MapSchema(_VERSION, key_pattern=VERSION_NAME), "versions by name, and how each differs", required=True
        ),
        "split": KeySchema(
            MapSchema(_SHARE, key_pattern=VERSION_NAME),
            "per cent of users by version; they add up to 100",
            required=True,
        ),
        "control": KeySchema(_VERSION_NAME, "the version that others are compared with (default: the largest share)"),
        "shadow": KeySchema(_VERSION_NAME, "a version that gets a copy of each request, and answers nobody"),
        "promote": KeySchema(_PROMOTE, "when the candidate gets more users"),
    }
)
_TARGET = TableSchema(
    {
        "in-flight": KeySchema(NumberSchema(0.01, 1e6), "requests that a replica handles or that wait for one"),
        "queue": KeySchema(NumberSchema(0.01, 1e6), "requests that wait, for each replica"),
        "cpu": KeySchema(NumberSchema(1, 1000), "per cent of the CPUs that a replica may use"),
        "gpu": KeySchema(NumberSchema(1, 100), "per cent of the time in which the GPUs of a replica compute"),
        "metrics": KeySchema(
            MapSchema(NumberSchema(1e-9, 1e15), key_pattern=r"[a-zA-Z_:][a-zA-Z0-9_:]*"),
            "gauges of the service's /metrics, and how much of each a replica should have",
        ),
    }
)
_RATE = TableSchema(
    {
        "window": KeySchema(IntegerSchema(0, 3600), "seconds whose most careful recommendation counts"),
        "replicas": KeySchema(IntegerSchema(1, MOST_REPLICAS), "most replicas in a period"),
        "percent": KeySchema(IntegerSchema(1, 10000), "most per cent of the replicas in a period"),
        "period": KeySchema(IntegerSchema(1, 1800), "seconds (default: 15)"),
        "select": KeySchema(TextSchema(choices=("max", "min", "disabled")), "which of both counts (default: max)"),
    }
)
_NO_LOGIN = "name the address alone; KEDA takes a login from a TriggerAuthentication in the cluster"
_PROMETHEUS = TextSchema(
    r"https?://(?![^/]*@)[^\s\0]+",
    "an address (`http://…`) without a login",
    advise=lambda text: _NO_LOGIN if "@" in text else "",
    instead=_NO_LOGIN,
)
SCALE = TableSchema(
    {
        "min": KeySchema(IntegerSchema(1, MOST_REPLICAS), "fewest replicas of each version", required=True),
        "max": KeySchema(IntegerSchema(1, MOST_REPLICAS), "most replicas of each version", required=True),
        "target": KeySchema(_TARGET, "what each replica should have of the load", required=True),
        "tolerance": KeySchema(NumberSchema(0, 1), "difference from the target that changes nothing (default: 0.1)"),
        "up": KeySchema(_RATE, "how fast replicas come (default: 4 or 100 % in 15 s)"),
        "down": KeySchema(_RATE, "how fast replicas go (default: 100 % in 15 s, after 300 s)"),
        "prometheus": KeySchema(_PROMETHEUS, "Prometheus that KEDA asks"),
    }
)
