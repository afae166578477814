"""Real proxies on loopback, and replicas that answer with their name: HAProxy plays both."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from buildkit.rollout.haproxy import VERSION_HEADER
from tests.ports import listens
from tests.waiting import wait_until


@contextlib.contextmanager
def running(program: str, text: str, *ports: int) -> Iterator[RunningProxy]:
    """A proxy with this configuration, once its ports answer."""
    folder = Path(tempfile.mkdtemp(prefix="bk-"))
    proxy = RunningProxy(program, folder / "proxy.cfg")
    proxy.write(text)
    try:
        proxy.start(*ports)
        yield proxy
    finally:
        proxy.stop()
        shutil.rmtree(folder)


class RunningProxy:
    """haproxy or nginx as a process of this one."""

    def __init__(self, program: str, file: Path) -> None:
        self._argv = (program, "-W", "-db", "-f", str(file)) if program == "haproxy" else (program, "-c", str(file))
        self._file = file
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, text: str) -> None:
        self._file.write_text(text)

    def start(self, *ports: int) -> None:
        self.process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for port in ports:
            wait_for(port)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR2)  # new workers take the sockets over

    def kill(self) -> None:
        """Kill -9: the worker of a replica, which has one, ends with its master."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        subprocess.run(("kill", "-9", str(self.process.pid), *children), check=False)
        self.process.wait(60)


def wait_for(port: int) -> None:
    wait_until(lambda: listens(port), lambda: f"nothing listens at {port}")


def replicas_text(named: dict[str, int], *, errors: dict[str, int] | None = None, stats: Path | None = None) -> str:
    """A configuration of replicas by name and port, some of which fail in so many per cent of requests."""
    lines = ["global", f"  stats socket {stats} level admin"] if stats else []
    lines += ["defaults", "  mode http", "  timeout client 30s", "  timeout server 30s", "  timeout connect 5s"]
    for name, port in named.items():
        lines += [f"frontend {name}", f"  bind 127.0.0.1:{port}"]
        if percent := (errors or {}).get(name):
            lines.append(f"  http-request return status 500 if !{{ path /readyz }} {{ rand(100) lt {percent} }}")
        lines.append(f"  http-request return status 200 content-type text/plain string {name}")
    return "\n".join(lines) + "\n"


class Load:
    """Clients that ask without a pause, each as one user over one connection, until the block ends."""

    def __init__(self, port: int, clients: int = 3, path: str = "/") -> None:
        self.answers: Counter[tuple[int, str]] = Counter()
        self.broken: list[str] = []
        self._end = threading.Event()
        self._port, self._path = port, path
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def wait_for_answers(self, count: int) -> None:
        goal = sum(self.answers.values()) + count
        wait_until(lambda: sum(self.answers.values()) >= goal or self.broken, lambda: "no answers come")

    def _ask(self, number: int) -> None:
        count = 0
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._end.is_set():
            count += 1
            try:
                connection.request("GET", self._path, headers={"X-User": f"{number}-{count}"})
                answer = connection.getresponse()
                answer.read()
                self.answers[answer.status, answer.headers.get(VERSION_HEADER, "")] += 1
                if answer.will_close:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
                connection.close()
        connection.close()


def ask_users(port: int, users: list[str], header: str = "X-User: ") -> list[str]:
    """Return the version that serves each user, many asked in one go over one connection; ``header`` is before each."""
    most = 900  # nginx ends a connection after 1000
    parts = (users[start : start + most] for start in range(0, len(users), most))
    return [version for part in parts for version in _ask(port, part, header)]


def _ask(port: int, users: list[str], before: str) -> list[str]:
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        sent = "".join(f"GET / HTTP/1.1\r\nHost: x\r\n{before}{user}\r\n\r\n" for user in users).encode()
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        found, header = [], VERSION_HEADER.lower().encode()
        with connection.makefile("rb") as answers:
            while len(found) < len(users):
                line = answers.readline()
                assert line, f"the connection ended after {len(found)} answers"
                name, _, value = line.partition(b":")
                if name.lower() == header:
                    found.append(value.strip().decode())
        sender.join()
    return found


class AskSocket:
    """Sends commands to HAProxy's socket on this host, as `ask_proxy` does to one in a container."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, command: str) -> str:
        return wait_until(lambda: self._find_answer(command), lambda: f"nothing answers `{command}`")[0]

    def _find_answer(self, command: str) -> list[str]:
        try:
            return [self._ask(command)]
        except OSError:  # it has just started
            return []

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self._path))
            connection.sendall(command.encode() + b"\n")
            parts = []
            while part := connection.recv(1 << 16):
                parts.append(part)
        return b"".join(parts).decode()
