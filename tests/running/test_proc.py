"""Parsing of the kernel's process files, from recorded ones."""

from __future__ import annotations

from buildkit.running.proc import (
    Connection,
    ListeningSocket,
    ProcessStatus,
    parse_cgroup_limit,
    parse_connections,
    parse_default_routes,
    parse_listening,
    parse_mounts,
    parse_status,
)
from tests.audit import observed


def test_status_of_a_confined_process_is_parsed() -> None:
    none = tuple((name, 0) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert parse_status(observed.STATUS) == ProcessStatus(
        name="python", uids=(1000,) * 4, gids=(1000,) * 5, capabilities=none, no_new_privileges=True, seccomp=2
    )


def test_status_of_a_privileged_process_is_parsed() -> None:
    text = observed.STATUS.replace("0000000000000000", "000001ffffffffff").replace("NoNewPrivs:\t1", "NoNewPrivs:\t0")
    found = parse_status(text.replace("Seccomp:\t2", "Seccomp:\t0"))
    assert dict(found.capabilities)["CapEff"] == (1 << 41) - 1
    assert (found.no_new_privileges, found.seccomp) == (False, 0)


def test_mounts_have_the_options_of_the_place_and_not_those_of_the_file_system() -> None:
    found = {mount.target: mount for mount in parse_mounts(observed.MOUNTS)}
    assert len(found) == 13
    assert "ro" in found["/"].options
    assert "rw" not in found["/"].options
    assert (found["/tmp"].kind, "noexec" in found["/tmp"].options) == ("tmpfs", True)
    (odd,) = parse_mounts("1 2 0:1 / /a\\040b\\012c rw shared:1 master:2 - ext4 /dev/x rw\n")
    assert odd.target == "/a b\nc"


def test_only_listening_sockets_are_parsed() -> None:
    assert parse_listening(observed.TCP, "tcp") == (
        ListeningSocket(protocol="tcp", address="0.0.0.0", port=8000),
        ListeningSocket(protocol="tcp", address="127.0.0.1", port=8001),
    )
    loopback, other = parse_listening(observed.TCP6, "tcp")
    assert (loopback.address, loopback.port, loopback.is_loopback) == ("::1", 8002, True)
    assert (other.address, other.is_loopback) == ("2001:db8::1", False)
    assert ListeningSocket(protocol="tcp", address="::ffff:127.0.0.1", port=8003).is_loopback


def test_connections_have_another_end_outside_of_the_container() -> None:
    ends = (
        ("FEE76F0A:B99A", "FEE76F0A:2382"),  # of a service that asks itself by the address that others know
        ("0100007F:B99A", "0100007F:2382"),
        ("FEE76F0A:B99B", "01E76F0A:01BB"),
    )
    text = "head\n" + "".join(f" 0: {own} {other} 01\n" for own, other in ends)
    assert parse_connections(text, "tcp") == (
        Connection(protocol="tcp", port=0xB99B, remote="10.111.231.1", remote_port=443),
    )


def test_default_routes_exclude_loopback() -> None:
    assert parse_default_routes(observed.ROUTE, observed.ROUTE6) == ("eth0",)
    assert parse_default_routes(observed.CLOSED, observed.ROUTE6) == ()
    assert parse_default_routes(observed.CLOSED, observed.WAY_OUT6) == ("eth1",)
    assert parse_default_routes("", "") == ()


def test_cgroup_limits_are_parsed_with_unlimited_as_none() -> None:
    assert parse_cgroup_limit("1073741824\n") == 1 << 30
    assert parse_cgroup_limit("max\n") is None
    assert parse_cgroup_limit("9223372036854771712\n") is None
