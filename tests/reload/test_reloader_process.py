"""The reloader as it runs in a container, with real servers: saves, errors, crashes, signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from buildkit.bench.dev_samples import attach_debugger
from tests.ports import take_port
from tests.reload.reloading import members, run_reloader, stay
from tests.waiting import wait_until

ASGI = """
import os

import other


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    body = b'{{"value": "{value}", "other": "%s", "pid": %d}}' % (other.VALUE.encode(), os.getpid())
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}})
    await send({{"type": "http.response.body", "body": body}})
"""
FILES = {"app.py": ASGI.format(value="0"), "other.py": "VALUE = 'a'\n"}
UVICORN = [sys.executable, "-m", "uvicorn", "app:app", "--port", "PORT", "--no-access-log"]

WSGI = """
import json
import os
from wsgiref.simple_server import make_server

import kept

VALUE = {value!r}


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({{"value": VALUE, "kept": kept.load("m"), "pid": os.getpid()}}).encode()]


if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ["PORT"]), app).serve_forever()
"""
KEPT = """
from pathlib import Path

HERE = Path(__file__).parent


def load(name):
    with (HERE.parent / "loads").open("a") as file:
        file.write("{mark}")
    return name + "{mark}"
"""


@pytest.fixture
def place():
    """A folder with a short name: the control socket's path is limited."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="r") as folder:
        yield Path(folder)


def ask_steadily(reloader, failures, stop, *, keep_alive):
    """Send requests without pause until told to stop; note what fails."""
    import http.client

    connection = None
    while not stop.is_set():
        try:
            if connection is None or not keep_alive:
                connection = http.client.HTTPConnection("127.0.0.1", reloader.port, timeout=60)
            connection.request("GET", "/")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                failures.append(response.status)
            if response.will_close or not keep_alive:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            failures.append(repr(error))
            connection = None
    if connection is not None:
        connection.close()


def test_twenty_saves_under_load_fail_no_request(place):
    with run_reloader(place, FILES, UVICORN) as reloader:
        reloader.wait("reloaded")
        failures, stop = [], threading.Event()
        threads = [
            threading.Thread(target=ask_steadily, args=(reloader, failures, stop), kwargs={"keep_alive": kept})
            for kept in (False, True, True)
        ]
        for thread in threads:
            thread.start()
        for number in range(1, 21):
            event = reloader.save("app.py", ASGI.format(value=number))
            assert event["event"] == "reloaded", event
            assert reloader.get()["value"] == str(number)  # never the old code after the event
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert reloader.stop() == 0
    assert stay(place) == []


def test_syntax_error_keeps_the_old_worker_and_tells_file_and_line(place):
    with run_reloader(place, FILES, UVICORN) as reloader:
        reloader.wait("reloaded")
        before = reloader.get()
        error = reloader.save("other.py", "VALUE = 'b'\nthis is not Python\n")
        assert (error["event"], error["file"], error["line"]) == ("error", str(place / "app/other.py"), 2)
        assert "this is not Python" in error["text"]
        assert error["serving"] == 1
        assert reloader.get() == before
        assert reloader.save("other.py", "VALUE = 'c'\n")["event"] == "reloaded"
        assert reloader.get()["other"] == "c"


def test_failure_at_import_and_at_startup_keep_the_old_worker(place):
    with run_reloader(place, FILES, UVICORN) as reloader:
        reloader.wait("reloaded")
        error = reloader.save("other.py", "import no_such_module\n")
        assert (error["event"], error["line"]) == ("error", 1)
        assert "no_such_module" in error["message"]
        failed = 'await send({"type": "lifespan.startup.failed", "message": "no model"}); return'
        startup = ASGI.format(value="x").replace("message = await receive()", failed)
        reloader.save("other.py", "VALUE = 'a'\n")
        error = reloader.save("app.py", startup)
        assert error["event"] == "error"
        assert "no model" in error["text"]
        assert reloader.get()["value"] == "0"


def test_first_start_with_an_error_serves_after_the_mend(place):
    with run_reloader(place, {**FILES, "other.py": "VALUE =\n"}, UVICORN) as reloader:
        assert reloader.wait("error")["line"] == 1
        assert reloader.save("other.py", "VALUE = 'mended'\n")["event"] == "reloaded"
        assert reloader.get()["other"] == "mended"


def test_edits_within_a_second_of_the_same_size_are_never_answered_with_older_bytecode(place):
    with run_reloader(place, FILES, UVICORN) as reloader:
        reloader.wait("reloaded")
        for value in "bcdef":
            assert reloader.save("other.py", f"VALUE = '{value}'\n")["event"] == "reloaded"
            os.utime(reloader.folder / "other.py", (1_000_000_000, 1_000_000_000))
            assert reloader.get()["other"] == value


def test_killed_worker_is_replaced_by_the_last_good_code(place):
    with run_reloader(place, FILES, UVICORN) as reloader:
        reloader.wait("reloaded")
        reloader.save("other.py", "VALUE = 'good'\n")
        pid = reloader.get()["pid"]
        reloader.wait("learned")  # what it runs is known
        time.sleep(0.5)
        assert reloader.save("other.py", "VALUE = broken\n")["event"] == "error"
        os.kill(pid, signal.SIGKILL)
        assert reloader.wait("exited")["signal"] == "SIGKILL"
        answer = reloader.get()  # waits in the kernel's queue until there is a worker
        assert (answer["other"], answer["pid"] != pid) == ("good", True)
        reloader.wait("replaced")


def test_kept_object_is_made_once_for_all_workers_until_its_module_changes(place):
    files = {"main.py": WSGI.format(value="1"), "kept.py": KEPT.format(mark="k")}
    loads = place / "loads"
    with run_reloader(place, files, [sys.executable, "main.py"], "--keep", "kept:load") as reloader:
        reloader.wait("reloaded")
        assert reloader.get()["kept"] == "mk"
        reloader.wait("kept", check=lambda _: loads.read_text() == "kk")  # the worker's, and the parent's
        for value in "234":
            reloader.save("main.py", WSGI.format(value=value))
            answer = reloader.get()
            assert (answer["value"], answer["kept"]) == (value, "mk")
        assert loads.read_text() == "kk"
        assert reloader.save("kept.py", KEPT.format(mark="n"))["event"] == "reloaded"
        assert reloader.get()["kept"] == "mn"
        assert loads.read_text() == "kkn"
        assert reloader.save("kept.py", "def load(:\n")["event"] == "error"
        assert reloader.get()["kept"] == "mn"


def test_modules_are_learnt_although_the_parent_is_busy_with_a_slow_model(place):
    slow = KEPT.format(mark="k").replace(
        "    return name", "    import time\n\n    time.sleep(0.8)\n    return name", 1
    )
    main = WSGI.format(value="1").replace("import kept\n", 'import kept\n\nkept.load("m")\n')
    with run_reloader(
        place, {"main.py": main, "kept.py": slow}, [sys.executable, "main.py"], "--keep", "kept:load"
    ) as reloader:
        reloader.wait("reloaded")
        reloader.wait("learned")
        assert reloader.save("main.py", main.replace("'1'", "'2'"))["event"] == "reloaded"
        assert reloader.get()["value"] == "2"


ONNX = """
import onnxruntime


def load(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
"""
INFERENCE = """
import json
import os
from pathlib import Path
from wsgiref.simple_server import make_server

import numpy
import onnxruntime

import kept

MODEL = Path(onnxruntime.__file__).parent / "datasets/mul_1.onnx"


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    answer = kept.load(str(MODEL)).run(None, {{"X": numpy.full((3, 2), {value}, "f4")}})
    return [json.dumps(float(answer[0].max())).encode()]


if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ["PORT"]), app).serve_forever()
"""


def test_kept_session_of_onnxruntime_infers_in_forked_workers(place):
    files = {"main.py": INFERENCE.format(value=1), "kept.py": ONNX}
    with run_reloader(place, files, [sys.executable, "main.py"], "--keep", "kept:load") as reloader:
        reloader.wait("reloaded")
        reloader.get()
        reloader.wait("learned")
        assert reloader.save("main.py", INFERENCE.format(value=0))["event"] == "reloaded"
        assert reloader.get() == 0.0
        assert [event for event in reloader.events if event["event"] == "notice"] == []


GUNICORN = """
import os


def note(word):
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{word} {os.getpid()}\\n")


def post_fork(server, worker):
    note("post_fork")


def on_exit(server):
    note("on_exit")
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_gunicorn_serves_in_one_process_and_calls_its_hooks(place, monkeypatch, threads):
    monkeypatch.setenv("NOTES", str(place / "notes"))
    command = [sys.executable, "-m", "gunicorn", "main:app", "--bind=127.0.0.1:PORT", f"--threads={threads}"]
    files = {
        "main.py": WSGI.format(value="1"),
        "kept.py": KEPT.format(mark="k")
        + f"\nLEFT = type('Left', (), {{'__del__': lambda _: open({str(place / 'freed')!r}, 'w')}})()\n",
        "gunicorn.conf.py": GUNICORN,
    }
    with run_reloader(place, files, command, "--keep", "kept:load") as reloader:
        reloader.wait("reloaded")
        pids = {reloader.get()["pid"]}
        for value in ("2", "3"):
            assert reloader.save("main.py", WSGI.format(value=value))["event"] == "reloaded"
            answer = reloader.get()
            pids.add(answer["pid"])
            assert answer["value"] == value
        reloader.ask("status")
        assert reloader.wait("status")["pid"] in pids, "the process that answers is the one that was forked"
        assert reloader.stop() == 0
    assert stay(place) == []
    notes = (place / "notes").read_text().splitlines()
    assert sorted(notes) == sorted(f"{word} {pid}" for pid in pids for word in ("post_fork", "on_exit"))
    assert not (place / "freed").exists(), "a worker that ends frees nothing, which would copy what is shared"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_every_process(place, number):
    with run_reloader(place, FILES, UVICORN) as reloader:
        reloader.wait("reloaded")
        reloader.save("other.py", "VALUE = 'b'\n")
        assert len(members(place)) > 2
        assert reloader.stop(number) == 0
    assert stay(place) == []


def test_worker_that_does_not_end_is_ended_after_the_stop_time(place):
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WSGI.format(value="1")
    files = {"main.py": stubborn, "kept.py": KEPT.format(mark="k")}
    with run_reloader(place, files, [sys.executable, "main.py"], "--stop-seconds", "0.5") as reloader:
        reloader.wait("reloaded")
        assert reloader.stop() == 0
    assert stay(place) == []


def test_ten_thousand_changed_files_are_one_reload(place):
    with run_reloader(place, FILES, UVICORN) as reloader:
        reloader.wait("reloaded")
        paths = []
        for number in range(10_000):
            path = reloader.folder / f"data/{number % 100}/{number}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
            paths.append(str(path))
        after = len(reloader.events)
        reloader.ask("changed", paths=paths)
        event = reloader.wait("reloaded", after)
        assert event["files"] == 10_000
        reloader.ask("status")
        reloader.wait("status", after)
        assert [one["event"] for one in reloader.events[after:]].count("reloading") == 1


def test_changes_are_found_without_a_host_that_tells(place):
    with run_reloader(place, FILES, UVICORN, watch=False) as reloader:
        reloader.wait("reloaded")
        after = len(reloader.events)
        beside = reloader.folder / ".other.py.new"
        beside.write_text("VALUE = 'found'\n")
        beside.replace(reloader.folder / "other.py")  # as editors and staged trees do
        assert reloader.wait("reloaded", after)["file"] == str(reloader.folder / "other.py")
        assert reloader.get()["other"] == "found"


def test_tests_and_bytecode_are_no_reason_to_reload(place):
    with run_reloader(place, FILES, UVICORN) as reloader:
        reloader.wait("reloaded")
        assert reloader.save("test_app.py", "def test(): pass\n")["event"] == "unaffected"


def test_installed_distribution_asks_for_another_container(place):
    with run_reloader(place, FILES, UVICORN) as reloader:
        reloader.wait("reloaded")
        (reloader.folder / "site-packages").mkdir()
        assert reloader.save("site-packages/numpy.py", "")["event"] == "replace"


def wait_for_text(path, text):
    wait_until(lambda: path.exists() and path.read_text() == text)


def test_other_program_is_restarted_and_that_is_said(place):
    files = {"serve.sh": "echo started $(cat value) >>../starts\nexec sleep 1000\n", "value": "1"}
    with run_reloader(place, files, ["sh", "serve.sh"]) as reloader:
        assert reloader.wait("started")["mode"] == "restart"
        wait_for_text(place / "starts", "started 1\n")
        event = reloader.save("value", "2")
        assert (event["event"], event["file"]) == ("restarted", str(reloader.folder / "value"))
        wait_for_text(place / "starts", "started 1\nstarted 2\n")
        assert reloader.stop() == 0
    assert stay(place) == []


SLOW_END = """
import time

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.8)  # by then the run has closed its channel, and has not ended

SLOW = Slow()

def test_alone():
    pass
"""


def test_tests_run_in_a_forked_process_and_can_be_chosen_by_what_was_touched(place):
    files = {
        **FILES,
        "tests/test_other.py": "import other\n\ndef test_value():\n    assert other.VALUE == 'a'\n",
        "tests/test_alone.py": SLOW_END,
    }
    with run_reloader(place, files, UVICORN) as reloader:
        reloader.wait("reloaded")
        reloader.ask("test", run="all", args=["-q", "-p", "no:cacheprovider", "tests"])
        assert reloader.wait("tested", check=lambda event: event["run"] == "all")["code"] == 0
        assert "2 passed" in output(reloader, "all")
        (reloader.folder / "other.py").write_text("VALUE = 'b'\n")
        touched = [str(reloader.folder / "other.py")]
        reloader.ask("test", run="some", args=["-q", "-p", "no:cacheprovider"], touched=touched)
        assert reloader.wait("tested", check=lambda event: event["run"] == "some")["code"] == 1
        assert "1 failed" in output(reloader, "some")


def test_debugger_is_waited_for_and_follows_the_workers(place):
    port = take_port()
    with run_reloader(place, FILES, UVICORN, "--debug", f"127.0.0.1:{port}", "--wait") as reloader:
        reloader.wait("debugger", check=lambda event: event["state"] == "waiting")
        with pytest.raises(OSError):  # nothing of the application runs yet
            reloader.request()
        assert attach_debugger(port) > 0
        reloader.wait("reloaded")
        assert reloader.get()["value"] == "0"
        assert reloader.save("app.py", ASGI.format(value="1"))["event"] == "reloaded"
        assert reloader.get()["value"] == "1"
        assert attach_debugger(port) > 0, "to the new worker"
        states = [event["state"] for event in reloader.events if event["event"] == "debugger"]
        assert states.count("attached") == 2, states


def output(reloader, run):
    return "".join(event["text"] for event in reloader.events if event["event"] == "output" and event["run"] == run)


def test_bad_requests_are_refused_and_do_no_harm(place):
    with run_reloader(place, FILES, UVICORN) as reloader:
        reloader.control.sendall(b'not json\n{"request": "explode"}\n{"request": "changed", "paths": 3}\n')
        reloader.wait("refused", check=lambda event: "paths" in event["message"])
        assert [event["event"] for event in reloader.events].count("refused") == 3
        reloader.wait("reloaded")
        assert reloader.get()["value"] == "0"
