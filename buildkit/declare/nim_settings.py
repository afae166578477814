"""NVIDIA's inference containers (NIM) as services: what one needs beyond an image.

Ports, paths and variables follow https://docs.nvidia.com/nim/large-language-models/latest/configuration.html.
"""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.declare.schema import BooleanSchema, IntegerSchema, KeySchema, TableSchema, TextSchema
from buildkit.declare.stage_schema import ABSOLUTE, SECRET_NAME, SIZE

PORT = 8000
USER = "1000:1000"  # of the images, and of what they write
CACHE = "/opt/nim/.cache"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the container's
_KEYS = ("NGC_API_KEY", "HF_TOKEN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nim:
    """What an inference container needs: ``cache`` names the volume of its models, ``key`` a secret.

    It reads the secret as the variable ``key_variable``. ``model`` is a folder of the container; empty: what the
    image chooses. With ``air_gapped`` it downloads nothing. ``shared_memory`` and ``disk`` are sizes as podman writes
    them (``16g``); ``disk`` must be free where a new cache comes to lie. Its model loads for ``start_minutes`` at most.
    """

    cache: str
    key: str = ""
    key_variable: str = _KEYS[0]
    model: str = ""
    air_gapped: bool = False
    shared_memory: str = "16g"
    disk: str = ""
    start_minutes: int = 30


NIM = TableSchema(
    {
        "cache": KeySchema(
            TextSchema(r"[a-z][a-z0-9-]{0,30}", "a name (lower case letters, digits, `-`)"),
            f"volume at {CACHE}, which belongs to the service's user",
            required=True,
        ),
        "key": KeySchema(
            TextSchema(SECRET_NAME, "a secret's name (lower case letters, digits, `_`, `-`)"),
            "secret with which it downloads models",
        ),
        "key-variable": KeySchema(
            TextSchema(choices=_KEYS), "variable by which the program gets the secret (default: NGC_API_KEY)"
        ),
        "model": KeySchema(ABSOLUTE, "folder of a model in the container, such as one in the cache (NIM_MODEL_PATH)"),
        "air-gapped": KeySchema(BooleanSchema(), "true: no key and no other hosts, models are there already"),
        "shared-memory": KeySchema(SIZE, f"size of {SHARED_MEMORY}, part of `memory` (default: 16g)"),
        "disk": KeySchema(SIZE, "what must be free for a new cache (default: not checked)"),
        "start-minutes": KeySchema(IntegerSchema(1, 1440), "longest load of the model (default: 30)"),
    }
)
