"""A configuration of a model (``config.pbtxt``) as values: what is generated, and what is checked of any other."""

from __future__ import annotations

from buildkit.lazy_dataclass import dataclass

Dims = tuple[int, ...]
VARIES = -1
LATEST = -1  # of an ensemble's step


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorConfig:
    """An input or output: ``dims`` without the batch's, -1 for one that varies; the model has ``reshape`` instead."""

    name: str
    type: str
    dims: Dims
    reshape: Dims | None = None
    optional: bool = False
    labels: str = ""

    @property
    def model_dims(self) -> Dims:
        """The dimensions that the model itself has."""
        return self.dims if self.reshape is None else self.reshape


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGroup:
    """Copies of a model that work side by side: ``count`` on each of ``gpus``, or on the CPU."""

    kind: str = "KIND_AUTO"
    count: int = 1
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicBatching:
    """How requests are put together; times in microseconds. ``queue`` is the most that wait, 0 for no limit."""

    preferred: tuple[int, ...] = ()
    delay: int = 0
    queue: int = 0
    timeout: int = 0
    levels: int = 0
    default_level: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupTensor:
    """An input of a request that warms up: ``data`` is ``zero``, ``random``, or the name of a file."""

    name: str
    type: str
    dims: Dims
    data: str = "zero"


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """A request that each instance answers before it counts as ready."""

    name: str
    batch: int
    inputs: tuple[WarmupTensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionPolicy:
    """Which versions are served: the ``latest`` so many, those of ``only``, or all if neither is said."""

    latest: int = 0
    only: tuple[int, ...] = ()

    def served(self, versions: tuple[int, ...]) -> tuple[int, ...]:
        """Return those of ``versions`` that are served."""
        if self.only:
            return tuple(one for one in versions if one in self.only)
        return versions[-self.latest :] if self.latest else versions


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleStep:
    """A model of an ensemble; pairs are its tensor and the ensemble's."""

    model: str
    version: int = LATEST
    inputs: tuple[tuple[str, str], ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A configuration. ``backend`` is `ENSEMBLE` for one of ``steps``; ``file`` is the backend's own if it is empty.

    ``decoupled`` and ``sequences`` are what keeps answers from being cached.
    """

    name: str
    backend: str
    max_batch: int = 0
    inputs: tuple[TensorConfig, ...] = ()
    outputs: tuple[TensorConfig, ...] = ()
    instances: tuple[InstanceGroup, ...] = ()
    batching: DynamicBatching | None = None
    warmups: tuple[Warmup, ...] = ()
    policy: VersionPolicy = VersionPolicy(latest=1)
    parameters: tuple[tuple[str, str], ...] = ()
    cached: bool = False
    steps: tuple[EnsembleStep, ...] = ()
    file: str = ""
    decoupled: bool = False
    sequences: bool = False

    def full_dims(self, tensor: TensorConfig) -> Dims:
        """Return the dimensions of a tensor as a request has them, the batch's included."""
        return (VARIES, *tensor.dims) if self.max_batch else tensor.dims
