"""Hints for what podman says about a container that did not start."""

import pytest

from buildkit.tools.podman import HINT, find_hint


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            "Error: netavark: nftables error: unable to execute nft",
            "apt-get install nftables",
        ),
        ('Error: /usr/bin/slirp4netns failed: "open(\\"/dev/net/tun\\"): Permission denied', "chmod 666 /dev/net/tun"),
        (
            "Error: failed to mount runtime directory for rootless netns: no such file or directory",
            "XDG_RUNTIME_DIR=/run",
        ),
        ("Error: runc create failed: error setting rlimit type 7: operation not permitted", "default_ulimits"),
        (
            "cni plugin bridge failed: requested IP address 10.1.2.3 is not available in range set 10.1.2.1-10.1.2.9",
            "find /var/lib/cni/networks -name 10.1.2.3 -delete",
        ),
        ("Error: something else", HINT),
        ('Error: creating container: the container name "x" is already in use', "podman rm --force"),
        ("Error: rootlessport listen tcp 127.0.0.1:80: bind: address already in use", "--port 0"),
    ],
)
def test_hint_names_what_mends(said: str, hint: str) -> None:
    assert hint in find_hint(said)
