"""Load on a service: what h2load notes, counted and rendered."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from buildkit.bench.alone import measuring_alone
from buildkit.bench.serve_bench import ServeSample, ServeSamples, StartSample
from buildkit.bench.serve_claims import find_concurrent, render_claims
from buildkit.bench.serve_load import PATIENCE, Load, LoadResult, parse_log, run_load
from buildkit.bench.serve_tables import render_loads, replace_between
from buildkit.cli import bench_dev, bench_serve
from buildkit.errors import BuildError, DefinitionError

LOG = "1000000\t200\t30000\n1010000\t200\t10000\n1020000\t503\t1000\n2000000\t200\t20000\n2010000\t-1\t5\n"


def make_result(answered: int, refused: int = 0, lost: int = 0, took: float = 0.05) -> LoadResult:
    return LoadResult(answered=(took,) * answered, refused=refused, lost=lost, seconds=2.0)


def make_sample(
    who: str, clients: int, result: LoadResult, memory: int | None = 100 << 20, cpu: float | None = None
) -> ServeSample:
    return ServeSample(who=who, what="short", clients=clients, result=result, memory=memory, cpu=cpu)


def test_each_request_is_answered_refused_or_lost() -> None:
    result = parse_log(LOG, 6)
    assert result.answered == (0.01, 0.02, 0.03)
    assert (result.refused, result.lost, result.requests) == (1, 2, 6)  # one failed, one has no line
    assert result.seconds == pytest.approx(1.02)
    assert result.rate == pytest.approx(3 / 1.02)
    assert result.errors == 0.5


def test_an_answer_after_the_client_has_given_up_is_lost() -> None:
    late = parse_log(f"0\t200\t{int(PATIENCE * 1e6) + 1}\n0\t200\t{int(PATIENCE * 1e6)}\n", 2)
    assert (len(late.answered), late.lost) == (1, 1)


def test_quantiles_are_of_the_answers() -> None:
    result = LoadResult(answered=tuple(range(1, 101)), refused=50, lost=0, seconds=1.0)
    assert [result.quantile(share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert math.isnan(parse_log("", 3).quantile(0.5))
    assert parse_log("", 3).lost == 3


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a server that refuses every third request."""
    count = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with count[0]:
                count[1][0] += 1
                refused = count[1][0] % 3 == 0
            good = body == b"RIFF" * 1000 and self.headers["content-type"] == "audio/wav"
            self.send_response(503 if refused else 200 if good else 400)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.tools
def test_h2load_sends_the_file_from_so_many_clients_and_notes_each_status(refusing: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"RIFF" * 1000)
    result = run_load(refusing, Load(clip=clip, clients=4, requests=6), tmp_path)
    assert (len(result.answered), result.refused, result.lost) == (16, 8, 0)
    assert 0 < result.quantile(0.5) <= result.quantile(1.0) <= result.seconds


@pytest.mark.tools
def test_requests_that_nobody_takes_are_lost(refusing: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"other")
    assert run_load(refusing, Load(clip=clip, clients=1, requests=6), tmp_path).lost == 4


def test_tables_have_a_row_for_each_load_and_one_for_each_start() -> None:
    samples = ServeSamples(
        loads=[
            make_sample("before", 50, make_result(6, refused=94), cpu=0.12),
            make_sample("this", 50, make_result(100)),
        ],
        starts=[StartSample(who="this", seconds=(0.9, 1.1, 1.0), cpu=(0.5, 0.4, 0.6))],
    )
    text = render_loads(samples)
    assert "| short | 50 | before | 50 ms | 50 ms | 50 ms | 3.0 | 20.0 ms | 94 of 100 (94.0%) | 0 | 100 MiB |" in text
    assert "| short | 50 | this | 50 ms | 50 ms | 50 ms | 50.0 | – | 0 | 0 | 100 MiB |" in text
    assert "| this | 1.0 s | 1.1 s | 0.40 s | 3 |" in text


def test_the_claims_stand_beside_what_was_measured() -> None:
    samples = ServeSamples(
        loads=[
            make_sample("guide", 1, make_result(10, took=0.2)),
            make_sample("guide", 50, make_result(98, lost=2, took=2.0), None),
            make_sample("this", 1, make_result(10, took=0.02)),
            make_sample("this", 50, make_result(100)),
        ],
        starts=[StartSample(who=who, seconds=(took,)) for who, took in (("guide", 2.5), ("this", 1.0))],
    )
    rows = {line.split("|")[1].strip(): line for line in render_claims(samples, "guide", "this").splitlines()}
    assert "200 ms → 50 ms | 200 ms (99 %: 200 ms) | 20 ms (99 %: 20 ms)" in rows["inference latency, one client"]
    assert "8 GB → 4 GB | – | 100 MiB" in rows["memory, 50 clients"]
    assert "10 → 50 | 1 | 50 and more" in rows["concurrent requests"]
    assert "2 % → 0.1 % | 2.00% (2 of 100) | 0.00% (0 of 100)" in rows["error rate, 50 clients"]
    assert "120 s → 15 s | 2.50 s | 1.00 s" in rows["container start-up"]


def test_a_number_of_clients_counts_only_if_all_smaller_ones_do() -> None:
    loads = [make_sample("this", 200, make_result(10)), make_sample("this", 1, make_result(10))]
    loads.append(make_sample("this", 50, make_result(9, refused=1)))
    assert find_concurrent(ServeSamples(loads=loads), "this") == 1
    assert find_concurrent(ServeSamples(loads=loads), "other") == 0


def test_figures_replace_what_stands_between_their_marks() -> None:
    document = "a\n<!-- bench-serve -->\nold\n<!-- end of bench-serve -->\nb\n"
    assert replace_between(document, "bench-serve", "new\n") == document.replace("old", "new")
    with pytest.raises(BuildError, match="no place"):
        replace_between(document, "bench-serve --guide", "new\n")


@pytest.mark.parametrize("session", [bench_dev, bench_serve])
def test_a_document_that_cannot_take_the_figures_is_refused_before_they_are_measured(
    session: ModuleType, tmp_path: Path
) -> None:
    for content, what in ((None, "cannot be read: No such file"), (b"\xff", "is not UTF-8"), (b"text", "no place")):
        document = tmp_path / "figures.md"
        if content is not None:
            document.write_bytes(content)
        with pytest.raises((BuildError, DefinitionError), match=what):
            session.run(tmp_path, ["--write", str(document)])


def test_a_second_measurement_is_refused_while_the_first_one_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(tmp_path / "state/ledger.key"))
    (tmp_path / "stages/runtime/app").mkdir(parents=True)
    (tmp_path / "stages/runtime/app/detector.py").touch()
    for _ in range(2):
        with measuring_alone():
            with pytest.raises(BuildError, match="another measurement is running"), measuring_alone():
                pass
            with pytest.raises(BuildError, match="another measurement is running"):
                bench_serve.run(tmp_path, [])


def test_another_project_is_told_that_it_lacks_the_service(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="measures the reference service, which this project lacks") as raised:
        bench_serve.run(tmp_path, [])
    assert raised.value.hint.startswith("nox -s profile")


def test_an_option_of_git_is_no_commit(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="must be a commit"):
        bench_serve.run(tmp_path, ["--before=--output=x"])
