"""The HTTP face: routes, their JSON, and how refusals are written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from analysis import Analysis
from draining import Closing
from formats import MEDIA_TYPES, Format
from metrics import CONTENT_TYPE, Counted, Metrics
from problems import MEDIA_TYPE, Problem, find_title
from segments import RATE, Rules, make_rules
from service import Service
from settings import Milliseconds, Probability, Settings
from tracing import Untraced, open_tracing
from uploads import UNTYPED

VERSION = "1.0.0"
CACHE_STATUS = {"hit": "speech; hit", "miss": "speech; fwd=miss", "unavailable": "speech; fwd=bypass"}  # RFC 9211


class Tuning(BaseModel):
    """The query of a request: the rules for it alone, the service's settings where absent."""

    model_config = ConfigDict(extra="forbid")

    threshold: Probability | None = None
    min_speech_ms: Milliseconds | None = None
    min_silence_ms: Milliseconds | None = None
    pad_ms: Milliseconds | None = None

    def make_rules(self, settings: Settings) -> Rules:
        """Return the rules that this query and the settings give."""
        own = self.model_dump(exclude_none=True)
        return make_rules(**{name: own.get(name, getattr(settings, name)) for name in Tuning.model_fields})


class SegmentBody(BaseModel):
    """A stretch of speech, in seconds from the beginning."""

    start: float
    end: float


class AudioBody(BaseModel):
    """What kind of file was sent."""

    duration: float = Field(description="seconds")
    sample_rate: int = Field(description="Hz, as sent")
    channels: int
    format: Format
    encoding: str = Field(description="libsndfile's name of the subtype, e.g. PCM_16, VORBIS, OPUS")


class SpeechBody(BaseModel):
    """The answer: segments in order of time, which do not overlap."""

    segments: list[SegmentBody]
    speech_seconds: float
    audio: AudioBody


class StateBody(BaseModel):
    """What a probe is told."""

    status: str
    reason: str = ""


def make_body(analysis: Analysis) -> SpeechBody:
    """Return the answer for an analysis: seconds to the millisecond, never past the end of the audio."""
    last = round(analysis.seconds, 3)
    segments = [
        SegmentBody(start=min(round(one.start / RATE, 3), last), end=min(round(one.end / RATE, 3), last))
        for one in analysis.segments
    ]
    return SpeechBody(
        segments=segments,
        speech_seconds=round(sum(one.end - one.start for one in segments), 3),
        audio=AudioBody(
            duration=last,
            sample_rate=analysis.rate,
            channels=analysis.channels,
            format=analysis.kind,
            encoding=analysis.encoding,
        ),
    )


def create_app(settings: Settings, on_failure: Callable[[], None] = lambda: None) -> FastAPI:
    """Return the application; the model is loaded when it starts, `on_failure` called where that fails."""
    metrics = Metrics()
    tracing = open_tracing(os.environ, VERSION)
    service = Service(settings, metrics, on_failure, tracing)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.load())
        try:
            yield
        finally:
            await service.stop()
            await asyncio.to_thread(tracing.stop)
            loading.cancel()

    app = FastAPI(
        title="Speech detection",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,  # the pages load their scripts from elsewhere; the document is at /openapi.json
        redoc_url=None,
        telemetry=tracing.config,
    )
    add_speech(app, service)
    add_probes(app, service)
    add_problems(app, metrics, tracing)
    paths = frozenset(path for path in app.openapi()["paths"]) | {"/metrics", "/openapi.json"}
    app.add_middleware(Counted, metrics=metrics, routes=paths)
    app.add_middleware(Closing, drain=service.drain)
    app.state.drain = service.drain
    app.state.tracing = tracing
    return app


def add_speech(app: FastAPI, service: Service) -> None:
    """Add `POST /v1/speech`."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    refused = {"content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}
    body = {"required": True, "content": dict.fromkeys((*MEDIA_TYPES, UNTYPED), binary)}
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": find_title(status), **refused} for status in (400, 408, 413, 415, 422, 503)
    }

    @app.post("/v1/speech", openapi_extra={"requestBody": body}, responses=responses)
    async def find_speech(request: Request, response: Response, tuning: Annotated[Tuning, Query()]) -> SpeechBody:
        """Find speech in the audio file that is the request's body: WAV, FLAC, OGG or MP3, any rate and channels."""
        answer = await service.handle(request, tuning.make_rules(service.settings))
        if answer.lookup:
            response.headers["Cache-Status"] = CACHE_STATUS[answer.lookup]
        with service.tracing.span("answer"):
            return make_body(answer.analysis)


def add_probes(app: FastAPI, service: Service) -> None:
    """Add what orchestrators and monitoring ask."""

    @app.get("/healthz")
    async def get_health() -> StateBody:
        """Say that the process is up."""
        return StateBody(status="up")

    @app.get("/readyz", responses={503: {"model": StateBody}})
    async def get_readiness(response: Response) -> StateBody:
        """Say whether the model is loaded and has answered once."""
        if service.is_ready:
            return StateBody(status="ready")
        response.status_code = 503
        return StateBody(status="failed" if service.failure else "not ready", reason=service.failure)

    @app.get("/metrics", include_in_schema=False)
    async def get_metrics() -> Response:
        """Return all series in Prometheus' text format."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)


def add_problems(app: FastAPI, metrics: Metrics, tracing: Untraced) -> None:
    """Have every refusal answered as a problem document, whoever raised it."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        problem = make_problem(error)
        metrics.problems.labels(problem.code).inc()
        body = problem.body
        if trace_id := tracing.trace_id:
            body["trace_id"] = trace_id
        return JSONResponse(body, problem.status, problem.headers, MEDIA_TYPE)

    for kind in (Problem, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def make_problem(error: Exception) -> Problem:
    """Return what a client is told about an error; of an unforeseen one nothing but that it happened."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            lines = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
            return Problem(422, "bad_parameter", "; ".join(lines), "see /openapi.json for the parameters")
        case HTTPException():
            return Problem(error.status_code, "http", str(error.detail), "see /openapi.json for the routes")
    return Problem(500, "internal", "the service failed; this is its fault, not the request's", "see its log")
