"""Answers of HAProxy's socket as values, and a HAProxy that is too old."""

from __future__ import annotations

import pytest

from buildkit.errors import DefinitionError
from buildkit.rollout.haproxy_answers import PoolLoad, ProxyLoad, ServerLoad, check_version, parse_stat

STAT = """# pxname,svname,qcur,qmax,scur,smax,slim,stot,status,act
service,FRONTEND,,,9,9,,70,OPEN,
new,new-1,0,0,2,4,,30,UP,1
new,new-2,0,0,1,1,,5,DOWN 2/3,0
new,BACKEND,4,4,7,9,,40,UP,1
old,old-1,0,0,0,0,,0,MAINT (via x/y),0
old,BACKEND,0,0,0,0,,0,DOWN,0
"""


def test_versions_are_backends_and_replicas_are_servers() -> None:
    assert parse_stat(STAT) == ProxyLoad(
        pools={
            "new": PoolLoad(healthy=1, in_flight=3, queued=4, requests=40),
            "old": PoolLoad(healthy=0, in_flight=0, queued=0, requests=0),
        },
        servers={
            "new-1": ServerLoad(status="UP", in_flight=2),
            "new-2": ServerLoad(status="DOWN", in_flight=1),
            "old-1": ServerLoad(status="MAINT", in_flight=0),
        },
    )


@pytest.mark.parametrize("version", ["2.6.0", "2.6.12-1+deb12u1", "2.10.1", "3.0.11"])
def test_haproxy_of_today_is_taken(version: str) -> None:
    check_version(f"Name: HAProxy\nVersion: {version}\nRelease_date: x\n")


@pytest.mark.parametrize(
    ("info", "known"),
    [
        ("Version: 2.5.14\n", "HAProxy 2.5: rollouts need 2.6"),
        ("Version: 1.9.0\n", "HAProxy 1.9: rollouts need 2.6"),
        ("Name: HAProxy\nOld_Version: 3.0.0\n", "HAProxy without a version: rollouts need 2.6"),
        ("", "HAProxy without a version: rollouts need 2.6"),
    ],
)
def test_haproxy_that_is_too_old_is_named_with_what_mends_it(info: str, known: str) -> None:
    with pytest.raises(DefinitionError, match=known) as caught:
        check_version(info)
    assert "bookworm has 2.6" in caught.value.hint
