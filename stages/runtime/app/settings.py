"""The service's settings: read from the environment once, typed, and refused all together when they are wrong.

Plain pydantic, which FastAPI has loaded already, rather than pydantic-settings: it costs no further import at start.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from xoe_runtime.cpus import count_cpus

from memory import count_memory
from secret_file import read_secret

PREFIX = "SPEECH_"
MOST_HELD = 1 << 30  # bytes, where nothing is set
SECRET = re.compile(r"(?<=:)(?!//).*(?=@)|(?<=password=).*", re.DOTALL)  # in an address; an error must not show it

Probability = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=0, le=60_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class SettingsError(Exception):
    """Settings that cannot be used; `problems` holds one line for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseModel):
    """Everything that can be set, by `SPEECH_` and the field's name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    model: Path = Path("/models/silero-vad/silero_vad_16k_sequence.onnx")
    """The Silero VAD model: its "sequence" export, which takes many windows a call."""

    profiles: Path = Path(__file__).parent / "profiles"
    """Where reference profiles of models lie, against which drift is measured: made by `python -m make_profile`."""

    host: str = "0.0.0.0"  # noqa: S104 - a container's own network; what is published is decided outside
    port: int = Field(default=8000, ge=1, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = True

    workers: int = Field(default_factory=count_cpus, ge=1, le=256)
    """Requests that are decoded and run through the model at the same time, each in a thread."""

    threads: int = Field(default=1, ge=1, le=256)
    """ONNX Runtime's threads within one run. The model is small: a second thread gains a tenth at most."""

    max_waiting: int = Field(default=256, ge=0, le=10_000)
    """Requests admitted beyond those at work, uploading or waiting; one more is answered 503."""

    max_wait: Seconds = 10.0
    """Seconds that a request may wait for a worker. One that would wait longer is answered 503 before it is read."""

    max_idle: int = Field(default=1024, ge=16, le=100_000)
    """Connections beyond those of admitted requests; one more takes the place of that which waits longest."""

    max_bytes: ByteSize = Field(default=ByteSize(32 * 1024 * 1024), ge=1024, le=2 * 1024**3)
    """The largest body, also as "32MiB"."""

    max_held: ByteSize | None = Field(default=None, ge=1024)
    """Bytes of all bodies at once, in memory. Where nothing is set: a quarter of what this container may use, at most
    1 GiB."""

    max_seconds: Seconds = 3600.0
    """The longest audio, decoded."""

    upload_timeout: Seconds = 60.0
    """Seconds that a body may take to arrive."""

    keep_alive: int = Field(default=75, ge=1, le=3600)
    """Seconds without a request after which a connection is closed: more than a balancer keeps it (HAProxy: 30)."""

    drain_seconds: float = Field(default=1.0, ge=0, le=600, allow_inf_nan=False)
    """Seconds after SIGTERM in which requests are answered though /readyz refuses; not if nobody is connected."""

    shutdown_timeout: int = Field(default=8, ge=1, le=600)
    """Seconds after SIGTERM for running requests to end; container engines kill after 10."""

    threshold: Probability = 0.5
    min_speech_ms: Milliseconds = 250
    min_silence_ms: Milliseconds = 100
    pad_ms: Milliseconds = 30

    cache: str = ""
    """Where results are kept: redis://HOST:PORT/NUMBER; empty for nowhere."""

    cache_password_file: Path | None = None
    cache_seconds: int = Field(default=86_400, ge=1, le=31_536_000)
    """Seconds for which a result is kept."""

    journal: str = ""
    """Where requests are noted: postgresql://USER@HOST:PORT/DATABASE; empty for nowhere."""

    journal_password_file: Path | None = None

    @field_validator("cache", "journal")
    @classmethod
    def check_address(cls, value: str, info: ValidationInfo) -> str:
        """Refuse addresses of something else, and those that hold a password."""
        schemes = {"cache": ("redis", "rediss"), "journal": ("postgresql", "postgres")}[info.field_name or ""]
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(f"must be an address such as {schemes[0]}://host")
        if parts.password is not None or "password=" in parts.query:
            name = f"{PREFIX}{info.field_name}_PASSWORD_FILE".upper()
            raise ValueError(f"must hold no password: {name} names a file with it")
        return value

    @field_validator("cache_password_file", "journal_password_file")
    @classmethod
    def check_secret(cls, value: Path | None) -> Path | None:
        """Refuse a file that cannot be read, or holds nothing."""
        try:
            empty = value is not None and not read_secret(value)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
        if empty:
            raise ValueError("holds no password")
        return value

    @property
    def admitted(self) -> int:
        """Requests admitted at once, at work and waiting."""
        return self.workers + self.max_waiting

    @property
    def connections(self) -> int:
        """Connections at once."""
        return self.admitted + self.max_idle

    @property
    def held(self) -> int:
        """Bytes of bodies held at once; one body always fits."""
        return max(self.max_bytes, self.max_held or min(MOST_HELD, count_memory() // 4))


def parse_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings that `environ` holds.

    A variable with the prefix that is no setting is an error where it looks like one misspelt, and left alone
    otherwise: Kubernetes sets `SPEECH_SERVICE_HOST` and the like for a Service of that name.

    Raises:
        SettingsError: naming every bad or misspelt variable.
    """
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    given = {field: environ[name] for name, field in known.items() if name in environ}
    problems = list(check_names(environ, tuple(known)))
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        problems += [render_error(detail["loc"], detail["msg"], given) for detail in error.errors()]
    if problems:
        raise SettingsError(tuple(problems))
    return settings


def check_names(environ: Mapping[str, str], known: tuple[str, ...]) -> list[str]:
    """Return a line for every variable that looks like a setting misspelt."""
    lines = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            lines += [
                f"{name}: unknown setting; did you mean {near}?"
                for near in difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            ]
    return lines


def render_error(loc: tuple[int | str, ...], message: str, given: Mapping[str, str]) -> str:
    """Return the line for one of pydantic's errors."""
    field = str(loc[0])
    value = SECRET.sub("…", given.get(field, ""))
    line = f"{PREFIX}{field.upper()}: {message} (got {value!r})"
    if value.startswith("tcp://"):
        line += "; Kubernetes sets this for a Service named `speech`: set `enableServiceLinks: false` in the pod"
    return line
