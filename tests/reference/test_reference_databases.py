"""The service with its cache in Redis and its journal in PostgreSQL, each of which may be there or not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.databases.places import POSTGRES, REDIS, build_image, keeping
from tests.reference.conftest import Project, Speech
from tests.reference.engine import Podman, Service, serving
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.network]

PASSWORD = "a password"
ROWS = (
    "select count(*), count(*) filter (where cache = 'hit'), max(segments) > 0 from speech_requests where status = 200"
)


def count(service: Service, series: str) -> int:
    lines = service.get("/metrics")[1].decode().splitlines()
    return next((int(float(line.split()[-1])) for line in lines if line.startswith(f"{series} ")), 0)


def ask_until(service: Service, clip: Path, outcome: str) -> list[object]:
    """Ask until the cache says so, and return the answers."""
    answers, until = [], time.monotonic() + 60
    series = f'speech_cache_lookups_total{{outcome="{outcome}"}}'
    before = count(service, series)
    while count(service, series) == before:
        assert time.monotonic() < until, service.podman("logs", service.container)
        answers.append(service.find_speech(clip))
        time.sleep(0.2)
    return answers


def test_hardened_service_uses_what_is_there_and_answers_without(
    project: Project, podman: Podman, speech: Speech, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clip = next(clip for clip in speech.clips if clip.name == "speech.wav")
    file = tmp_path / "secret"
    file.write_text(f"{PASSWORD}\n", "utf-8")
    tmp_path.chmod(0o755)
    options = (
        "--env=SPEECH_CACHE=redis://127.0.0.1:6379/0", "--env=SPEECH_CACHE_PASSWORD_FILE=/secret",
        "--env=SPEECH_JOURNAL=postgresql://app@127.0.0.1/app", "--env=SPEECH_JOURNAL_PASSWORD_FILE=/secret",
        f"--volume={file}:/secret:ro",
    )  # fmt: skip
    redis, postgres = (build_image(podman, stage, tmp_path_factory).id for stage in ("redis", "postgres"))
    with (
        keeping(podman, redis, REDIS, tmp_path) as cache,
        keeping(podman, postgres, POSTGRES, tmp_path) as journal,
        serving(podman, project.images["hardened"], *options) as service,
    ):
        service.wait()
        network = f"--network=container:{service.container}"
        answers = ask_until(service, clip, "unavailable")  # neither is there
        with cache.running(PASSWORD, network), journal.running(PASSWORD, network) as database:
            answers += ask_until(service, clip, "miss")
            answers += ask_until(service, clip, "hit")
            written = 'speech_journal_rows_total{outcome="written"}'
            wait_until(lambda: count(service, written) >= len(answers), lambda: podman("logs", service.container))
            inside = ("exec", database.name, "psql", "-Upostgres", "-dapp", "-Atc", ROWS)
            assert podman(*inside).strip() == f"{len(answers)}|1|t"  # those from before it was there, too
        answers += ask_until(service, clip, "unavailable")  # both are gone
        assert all(answer == answers[0] for answer in answers)
        assert podman("logs", service.container).count("the cache can be used again") == 1
