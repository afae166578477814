"""Headers and a small body go out in one segment: a proxy holds back the second of two small ones."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

import pytest

from buildkit.tools.distribution.connections import Connections, FilePart, HttpRequest, Operation, RegistryOrigin

_DATA_SEGMENTS_IN = 152  # the place of tcpi_data_segs_in in struct tcp_info (linux/tcp.h)
_ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
_BODY = b"a small layer" * 100


def count_segments(server: socket.socket, found: list[int]) -> None:
    """Answer one request, and count the segments that it came in."""
    client, _ = server.accept()
    with client:
        received = b""
        while not received.endswith(_BODY):
            received += client.recv(1 << 16)
        info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _DATA_SEGMENTS_IN + 4)
        found += struct.unpack_from("I", info, _DATA_SEGMENTS_IN)
        client.sendall(_ANSWER)


@pytest.mark.parametrize("of_file", [True, False])
def test_small_body_comes_with_its_headers(tmp_path: Path, *, of_file: bool) -> None:
    (tmp_path / "blob").write_bytes(_BODY)
    body = FilePart(path=tmp_path / "blob", start=0, size=len(_BODY)) if of_file else _BODY
    found: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=count_segments, args=(server, found))
        answering.start()
        origin = RegistryOrigin("http", "127.0.0.1", server.getsockname()[1])
        request = HttpRequest(method="PUT", origin=origin, target="/v2/x/blobs/uploads/1", body=body)
        answer = Operation(Connections(lambda: pytest.fail("no TLS")), 60).request(request)
        answering.join()
    assert (answer.status, found) == (201, [1])
