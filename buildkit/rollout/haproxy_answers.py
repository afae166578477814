"""What HAProxy answers on its socket: `show info`, `show stat` and `show events`. Text to values."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from buildkit.errors import DefinitionError
from buildkit.rollout.decide import Answer
from buildkit.rollout.haproxy import OLDEST

SHOW_ANSWERS = "show events answers"
_ANSWER = re.compile(
    r"(?:<[0-9]+>)?\s*(?P<ms>[0-9]{12,15}) (?P<version>\S+) (?P<status>-?[0-9]+) \+?(?P<took>-?[0-9]+) (?P<end>\S\S)\s*"
)
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLoad:
    """A version as the proxy sees it: replicas that answer, requests that they handle, that queue, and all so far."""

    healthy: int
    in_flight: int
    queued: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLoad:
    """A replica: its state (``UP``, ``DOWN``, ``MAINT``, ``DRAIN``), and the requests that it handles."""

    status: str
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLoad:
    """Versions and replicas by name."""

    pools: dict[str, PoolLoad]
    servers: dict[str, ServerLoad]


def parse_stat(text: str) -> ProxyLoad:
    """Parse `show stat`, comma-separated values with a header (management guide, section 9.1)."""
    pools: dict[str, PoolLoad] = {}
    servers: dict[str, ServerLoad] = {}
    for row in csv.DictReader(io.StringIO(text.removeprefix("# "))):
        if row["svname"] == "BACKEND":
            pools[row["pxname"]] = PoolLoad(
                healthy=_number(row["act"]),
                in_flight=_number(row["scur"]) - _number(row["qcur"]),
                queued=_number(row["qcur"]),
                requests=_number(row["stot"]),
            )
        elif row["svname"] != "FRONTEND":
            status = row["status"].partition(" ")[0]
            servers[row["svname"]] = ServerLoad(status=status, in_flight=_number(row["scur"]))
    return ProxyLoad(pools=pools, servers=servers)


def _number(text: str | None) -> int:
    return int(text or 0)


def parse_answers(text: str) -> Iterator[Answer]:
    """Yield the answers of `show events answers`; requests that their sender gave up are none."""
    for line in text.splitlines():
        found = _ANSWER.fullmatch(line)
        if found is None or found["end"].startswith("C"):
            continue
        status = int(found["status"])
        yield Answer(
            version=found["version"],
            time=int(found["ms"]) / 1000,
            seconds=max(int(found["took"]), 0) / 1000,
            failed=status >= _SERVER_ERROR or status < 0,
        )


def check_version(info: str) -> None:
    """Raise DefinitionError if `show info` names a HAProxy that is too old for what is asked of it."""
    found = re.search(r"^Version: ([0-9]+)\.([0-9]+)", info, re.MULTILINE)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < OLDEST:
        oldest, known = ".".join(map(str, OLDEST)), ".".join(map(str, version)) if found else "without a version"
        raise DefinitionError(
            f"the proxy is HAProxy {known}: rollouts need {oldest}",
            hint="root.suite of the proxy's stage: bookworm has 2.6, trixie 3.0",
        )
