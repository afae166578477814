"""The running service behind the routes: its model, its threads, and what must be undone at the end."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from starlette.requests import Request

from admission import Admission, Limits
from analysis import Analyser, Analysis
from detector import ModelError, load_detector
from draining import Drain
from metrics import NO_ANSWER, Metrics
from observation import Observation, now
from performance import Performance, find_profile
from problems import Problem
from records import Noted, open_records
from segments import RATE, Rules
from settings import Settings
from tracing import Untraced
from uploads import check_headers, read_body

log = logging.getLogger("speech")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An analysis, and how it went to look it up: hit, miss, unavailable; empty without a cache."""

    analysis: Analysis
    lookup: str = ""


class Service:
    """Loads the model in the background, then analyses files in a bounded number of threads.

    Memory is bounded: bodies are held up to `settings.held` bytes in all, and each worker holds one decoded block.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, on_failure: Callable[[], None], tracing: Untraced | None = None
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.failure = ""
        self._on_failure = on_failure
        self.tracing = tracing or Untraced()
        self._analyser: Analyser | None = None
        self._performance: Performance | None = None
        self.drain = Drain()
        self._admission = Admission(
            Limits(workers=settings.workers, requests=settings.admitted, bytes=settings.held, seconds=settings.max_wait)
        )
        metrics.waiting.set_function(lambda: self._admission.waiting)
        metrics.inside.set_function(lambda: self._admission.inside)
        metrics.workers.set(settings.workers)
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="speech")
        self._records = open_records(settings, metrics)

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded and has answered once, and the service is not stopping."""
        return self._analyser is not None and not self.drain.leaving

    async def load(self) -> None:
        """Load the model; where it cannot be used, say so and call `on_failure`."""
        settings = self.settings
        self._records.start()
        loop = asyncio.get_running_loop()
        try:
            detector = await loop.run_in_executor(self._pool, load_detector, settings.model, settings.threads)
        except ModelError as error:
            self._fail(str(error))
            return
        profile = find_profile(settings.profiles, detector.info)
        self._performance = Performance(self.metrics.registry, detector.info, profile)
        self._analyser = Analyser(detector=detector, max_seconds=settings.max_seconds)
        self.metrics.model.labels(detector.info.name, detector.info.sha256).set(1)
        self.metrics.ready.set(1)
        log.info("ready: %s, %d workers, bodies up to %d bytes in all", detector.info, settings.workers, settings.held)

    def _fail(self, why: str) -> None:
        self.failure = why
        log.critical("%s", why)
        self._on_failure()

    async def stop(self) -> None:
        """Tell those who still wait to come back, and wait for threads to end at their next block."""
        self.drain.expire()
        self.metrics.ready.set(0)
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
        await self._records.stop()

    async def handle(self, request: Request, rules: Rules) -> Answer:
        """Take one request's body and return what was found in it, now or before.

        Raises:
            Problem: the request is refused, or nobody waits for its answer.
        """
        with self._count(), self._records.note() as noted:
            async with self.drain.request():
                noted.analysis = await self._analyse(request, rules, noted)
        return Answer(analysis=noted.analysis, lookup=noted.lookup)

    async def _analyse(self, request: Request, rules: Rules, noted: Noted) -> Analysis:
        size = check_headers(request, self.settings.max_bytes)
        analyser = self._get_analyser()
        with self._admission.admit(size):
            with self.tracing.span("receive"):
                body = await read_body(request, size, self.settings.upload_timeout)
            if self._records.wanted:
                noted.model, noted.bytes = analyser.detector.info.sha256, body.getbuffer().nbytes
                noted.content = await asyncio.to_thread(_hash, body)
            analysis, noted.lookup = await self._records.find(noted, rules)
            if analysis is None:
                async with self._admission.worker():
                    analysis = await self._run(request, analyser, body, rules)
                self.metrics.audio.inc(analysis.seconds)
                self.metrics.speech.inc(sum(segment.end - segment.start for segment in analysis.segments) / RATE)
                await self._records.keep(noted, rules, analysis)
        return analysis

    def _count(self) -> AbstractContextManager[None]:
        return nullcontext() if self._performance is None else self._performance.count()

    def _get_analyser(self) -> Analyser:
        if self._analyser is None:
            raise Problem(503, "not_ready", "the model is not ready", "ask /readyz, then try again", retry_after=1)
        return self._analyser

    def _observe(self, analysis: Analysis, seen: Observation, begun: int) -> Analysis:
        if self._performance is not None:
            self._performance.observe((now() - begun) / 1e9, seen.make_signals(analysis))
        return analysis

    async def _run(self, request: Request, analyser: Analyser, body: io.BytesIO, rules: Rules) -> Analysis:
        """Analyse in a thread, and stop that thread when the client goes or the task is cancelled."""
        abandoned = threading.Event()
        seen, begun = Observation(), now()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pool, analyser.analyse, body, rules, abandoned.is_set, seen)
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits for what is abandoned
        gone = asyncio.create_task(_wait_until_gone(request))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Problem(NO_ANSWER, "client_gone", "the client closed the connection")
            return self._observe(work.result(), seen, begun)
        finally:
            abandoned.set()
            gone.cancel()
            self.tracing.record(seen, analyser.detector.info)


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _hash(body: io.BytesIO) -> str:
    return hashlib.sha256(body.getbuffer()).hexdigest()
