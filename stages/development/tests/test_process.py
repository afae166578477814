"""The service as a process: how it starts, says that it is ready, and stops."""

from __future__ import annotations

import functools
import signal
import socket
import time
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import numpy as np
import pytest
from clips import encode
from processes import Start, finish, wait_until_healthy


def test_it_becomes_healthy_answers_and_stops_when_told(run: Start, port: int) -> None:
    assert run("-IS", "healthcheck.py").wait() == 1
    service = run("-m", "main")
    wait_until_healthy(run)
    answer = httpx2.post(
        f"http://127.0.0.1:{port}/v1/speech",
        content=encode(np.zeros(16_000, np.float32), 16_000),
        headers={"Content-Type": "audio/wav"},
    )
    assert answer.json()["segments"] == []
    assert "server" not in answer.headers
    service.send_signal(signal.SIGTERM)
    code, output = finish(service)
    assert code == 0, output
    assert "Traceback" not in output
    assert run("-IS", "healthcheck.py").wait() == 1


def test_an_interrupt_stops_it_as_quietly(run: Start) -> None:
    service = run("-m", "main")
    wait_until_healthy(run)
    service.send_signal(signal.SIGINT)
    code, output = finish(service)
    assert code == 0, output
    assert "Traceback" not in output


def test_a_plain_uvicorn_serves_it_too(run: Start, port: int) -> None:
    run("-m", "uvicorn", "main:app", "--host", "127.0.0.1", "--port", str(port))
    wait_until_healthy(run)


def test_a_connection_that_sends_no_request_is_closed(run: Start, port: int) -> None:
    run("-c", "import server\nserver.PATIENCE = server.DISCARD = 0.5\nimport main\nmain.run_server()")
    wait_until_healthy(run)
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    slow = {
        "silent": (b"", b""),
        "headers": (get, b""),
        "second request": (get + b"\r\n", get),
        "body": (get + b"Content-Length: 9\r\n\r\n12", b"3"),
    }
    for first, more in slow.values():
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(first)
            while connection.recv(4096):  # ends: the service closes it
                connection.sendall(more)  # after the answer
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        ports = set()
        for _ in range(3):  # one that rests between its requests is kept
            answer = client.get("/healthz")
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            time.sleep(1)
    assert len(ports) == 1


@pytest.mark.parametrize(
    ("before", "environ"),
    [
        ("", {"SPEECH_MAX_IDLE": "16"}),
        ("import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (90, 90))\n", {}),
    ],
)
def test_slow_clients_keep_out_neither_probes_nor_requests(
    run: Start, port: int, before: str, environ: dict[str, str]
) -> None:
    """However many they are, and wherever they stop; what is at work goes on, also for a client that sends slowly."""
    few = {"SPEECH_WORKERS": "2", "SPEECH_MAX_WAITING": "0"}
    run("-c", f"{before}import server\nserver.PATIENCE = 600\nimport main\nmain.run_server()", **few, **environ)
    wait_until_healthy(run)
    audio = encode(np.zeros(16_000, np.float32), 16_000)
    head = f"POST /v1/speech HTTP/1.1\r\nHost: x\r\nContent-Length: {len(audio)}\r\nConnection: close\r\n\r\n"
    with ExitStack() as stack:
        connect = functools.partial(socket.create_connection, ("127.0.0.1", port), timeout=20)
        upload = stack.enter_context(connect())
        upload.sendall(head.encode() + audio[:1000])
        get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        resting, slow = HTTPConnection("127.0.0.1", port, timeout=20), []
        stack.callback(resting.close)
        resting.request("GET", "/healthz")
        assert resting.getresponse().read()
        for number in range(60):
            slow.append(stack.enter_context(connect()))
            slow[-1].sendall(get if number % 12 == 11 else (b"", b"GET /healthz HTTP")[number % 2])
        for _ in range(3):
            assert run("-IS", "healthcheck.py").wait() == 0
        assert is_closed(slow[0])
        assert not is_closed(resting.sock)
        upload.sendall(audio[1000:])
        assert upload.recv(100).startswith(b"HTTP/1.1 200")


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False


def test_a_client_that_reads_no_answer_is_left(run: Start, port: int) -> None:
    run("-c", "import server\nserver.DISCARD = 0.5\nimport main\nmain.run_server()")
    wait_until_healthy(run)
    with socket.socket() as connection:
        connection.settimeout(20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        with suppress(ConnectionResetError, BrokenPipeError):  # and not TimeoutError
            while True:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)


def test_bad_settings_are_all_told_and_exit_with_2(run: Start) -> None:
    code, output = finish(run("-m", "main", SPEECH_PORT="x", SPEECH_THRESHOLD="7", SPEECH_WORKRES="1"))
    assert code == 2
    assert [line.split(":")[1].strip() for line in output.splitlines()] == [
        "SPEECH_WORKRES",
        "SPEECH_PORT",
        "SPEECH_THRESHOLD",
    ]


def test_a_missing_model_exits_with_1_and_names_it(run: Start) -> None:
    code, output = finish(run("-m", "main", SPEECH_MODEL="/nonexistent/model.onnx"))
    assert code == 1
    assert "/nonexistent/model.onnx" in output
    assert "Traceback" not in output


def test_a_taken_port_exits_with_1(run: Start, port: int) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", port))
        one.listen()
        code, output = finish(run("-m", "main"))
    assert code == 1
    assert "address already in use" in output


def test_healthcheck_asks_where_the_service_listens(run: Start) -> None:
    run("-m", "main", SPEECH_HOST="127.0.0.2")
    wait_until_healthy(run, SPEECH_HOST="127.0.0.2")
    assert run("-IS", "healthcheck.py", SPEECH_HOST="0.0.0.0").wait() == 1


def test_nothing_is_left_behind_and_no_telemetry_is_set_up(run: Start, tmp_path: Path) -> None:
    service = run("-m", "main", HOME=str(tmp_path), TMPDIR=str(tmp_path))
    wait_until_healthy(run)
    service.send_signal(signal.SIGTERM)
    assert finish(service)[0] == 0
    assert list(tmp_path.rglob("*")) == []


def test_a_refused_upload_is_answered_before_it_is_sent(run: Start, port: int) -> None:
    run("-m", "main", SPEECH_MAX_BYTES="1MiB")
    wait_until_healthy(run)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = b"POST /v1/speech HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: 9999999999\r\n"
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
