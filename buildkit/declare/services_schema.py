"""The schema of ``services.toml``, for the parser and for the JSON Schema."""

from __future__ import annotations

from buildkit.declare.gpu_request import GPU
from buildkit.declare.image_names import PINNED_IMAGE
from buildkit.declare.nim_settings import NIM
from buildkit.declare.observe_settings import METRICS, OBSERVE
from buildkit.declare.proxy_settings import PROXY
from buildkit.declare.rollout_schema import ROLLOUT, SCALE
from buildkit.declare.schema import (
    BooleanSchema,
    IntegerSchema,
    KeySchema,
    ListSchema,
    MapSchema,
    NumberSchema,
    TableSchema,
    TextSchema,
    WordOrNumberSchema,
)
from buildkit.declare.services import PER_GPU
from buildkit.declare.stage_schema import (
    ABSOLUTE,
    ARGV,
    HEALTH,
    RELATIVE,
    SECRET_NAME,
    SIZE,
    STAGE_NAME,
    STAGE_NAME_WORDS,
    TEXT,
    TMPFS,
)
from buildkit.declare.written_secrets import IN_SERVICES

CONDITIONS = ("started", "healthy", "completed")
ACTIONS = ("sync", "restart", "sync+restart", "rebuild", "reload")
NAME = r"[a-z][a-z0-9-]{0,30}"
_NAME_WORDS = "a name (lower case letters, digits, `-`)"
_HOST = r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}:|\[[0-9a-fA-F:]+\]:)?"
PORT = rf"{_HOST}(?:[0-9]{{1,5}}:)?[0-9]{{1,5}}(?:/(?:tcp|udp))?"
EXEMPTION = r"capability:[A-Z_]+|writable-root|new-privileges|executable:/[^\0:,]+"
_SUBNET = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}/[0-9]{1,2}"

_NAME = TextSchema(NAME, _NAME_WORDS)
_WATCH = TableSchema(
    {
        "path": KeySchema(RELATIVE, "file or folder of the repository", required=True),
        "action": KeySchema(TextSchema(choices=ACTIONS), "what a change of it does", required=True),
        "target": KeySchema(ABSOLUTE, "where it lies in the container, for `sync`"),
        "ignore": KeySchema(ListSchema(TEXT), "patterns below the path, as in .containerignore"),
    }
)
_MODULE = r"[A-Za-z_][A-Za-z0-9_.]*"
_RELOAD = TableSchema(
    {
        "keep": KeySchema(
            ListSchema(TextSchema(rf"{_MODULE}(:[A-Za-z_][A-Za-z0-9_]*)?", "a module, or `module:function`")),
            "what outlives changes of the code, such as the function that loads a model",
        ),
        "preload": KeySchema(ListSchema(TextSchema(_MODULE, "a module")), "modules to import once (default: learnt)"),
        "probe": KeySchema(TextSchema(r"/[^\0\s]*", "a path (`/ready`)"), "path whose answer says that it is ready"),
        "mode": KeySchema(
            TextSchema(choices=("auto", "fresh", "restart", "off")),
            "how changes reach the service (default: auto, a fork of what is imported already)",
        ),
    }
)
_EXEMPTION = TableSchema(
    {
        "allow": KeySchema(
            TextSchema(
                EXEMPTION, "`capability:NAME`, `writable-root`, `new-privileges` or `executable:/FOLDER` (of tmpfs)"
            ),
            "the protection that is taken away",
            required=True,
        ),
        "why": KeySchema(
            TextSchema(r"[^\0]*\S[^\0]*", "a reason"), "the reason, for whoever reviews it", required=True
        ),
    }
)
_SERVICE = {
    "stage": KeySchema(TextSchema(STAGE_NAME, STAGE_NAME_WORDS), "stage of this project whose image it runs"),
    "image": KeySchema(
        TextSchema(PINNED_IMAGE, "an image pinned by digest (NAME@sha256:...)"), "image of a registry, by digest"
    ),
    "user": KeySchema(
        TextSchema(r"[a-z0-9_][a-z0-9_-]*(:[a-z0-9_][a-z0-9_-]*)?", "a user (`999`, `999:999` or a name)"),
        "user it runs as (default: the stage's; needed with `image`)",
    ),
    "depends-on": KeySchema(
        MapSchema(TextSchema(choices=CONDITIONS), key_pattern=NAME),
        "services that must be started, healthy or completed before it starts",
    ),
    "ports": KeySchema(
        ListSchema(TextSchema(PORT, "a port (`8000`, `9000:8000`, `0:8000`, `127.0.0.1:9000:8000`, `53/udp`)")),
        "ports open on the host, on loopback unless an address is said; host port 0 is any that is free",
    ),
    "env": KeySchema(MapSchema(TextSchema(instead=IN_SERVICES)), "environment variables; a secret is never one"),
    "secrets": KeySchema(
        ListSchema(TextSchema(SECRET_NAME, "a secret's name (lower case letters, digits, `_`, `-`)")),
        "secrets it reads as /run/secrets/NAME",
    ),
    "volumes": KeySchema(
        MapSchema(ABSOLUTE, key_pattern=NAME), "named volumes and where they are mounted; kept when it ends"
    ),
    "command": KeySchema(ARGV, "argument list that replaces the image's"),
    "memory": KeySchema(SIZE, "most memory, swap included (default: the stage's)"),
    "pids": KeySchema(IntegerSchema(1, 4194304), "most processes and threads (default: the stage's)"),
    "cpus": KeySchema(NumberSchema(0.01, 4096), "most CPUs (default: the stage's)"),
    "tmpfs": KeySchema(TMPFS, "folders in memory that may be written (default: the stage's)"),
    "outgoing": KeySchema(BooleanSchema(), "whether it may reach other hosts (default: the stage's)"),
    "stop-seconds": KeySchema(IntegerSchema(1, 3600), "seconds to end after the stop signal (default: the stage's)"),
    "system-calls": KeySchema(
        TextSchema(choices=("service", "default")), "system calls it may make (default: the stage's)"
    ),
    "gpu": KeySchema(GPU, 'GPUs that it asks for (default: the stage\'s); "none" for none'),
    "nim": KeySchema(NIM, "what an inference container of NVIDIA (NIM) needs"),
    "metrics": KeySchema(METRICS, "where it answers Prometheus (default: the stage's); `nox -s observe` asks it"),
    "healthcheck": KeySchema(HEALTH, "health check (default: the stage's)"),
    "exceptions": KeySchema(ListSchema(_EXEMPTION), "protections that it cannot have, each with a reason"),
    "watch": KeySchema(ListSchema(_WATCH), "what a change of a file does, beyond what follows from the stage"),
    "reload": KeySchema(_RELOAD, "how `nox -s dev` reloads a Python service"),
    "replicas": KeySchema(
        WordOrNumberSchema(IntegerSchema(1, 64), {"per-gpu": PER_GPU}),
        "containers behind the proxy: a number, or `per-gpu` for one on each GPU that the service asks for",
    ),
    "proxy": KeySchema(PROXY, "the proxy before it, if it has versions or several replicas"),
    "rollout": KeySchema(ROLLOUT, "versions that run side by side, and who gets which"),
    "scale": KeySchema(SCALE, "how many replicas run, by load"),
}
_ENVIRONMENT = TableSchema(
    {
        "services": KeySchema(ListSchema(_NAME, least=1), "the services that run in it", required=True),
        "subnet": KeySchema(
            TextSchema(_SUBNET, "a network (`10.90.1.0/24`)"), "addresses of its network (default: by its name)"
        ),
        "overrides": KeySchema(
            MapSchema(TableSchema(_SERVICE), key_pattern=NAME),
            "by service: keys that differ here; `env` and `volumes` are added to, other keys are replaced",
        ),
    }
)
SOURCES = ("env", "file", "command", "generate")
_SECRET = TableSchema(
    {
        "env": KeySchema(TextSchema(r"[A-Za-z_][A-Za-z0-9_]*", "a variable's name"), "variable that holds it"),
        "file": KeySchema(TextSchema(r"[^\0]+", "a path"), "file that holds it, relative to the repository, or `~/…`"),
        "command": KeySchema(ARGV, "argument list of a program that prints it"),
        "generate": KeySchema(BooleanSchema(), "true: made at random at the first start, and kept by podman"),
    },
    rules={"oneOf": [{"required": [source]} for source in SOURCES]},
)
SERVICES = TableSchema(
    {
        "services": KeySchema(
            MapSchema(
                TableSchema(_SERVICE, rules={"oneOf": [{"required": ["stage"]}, {"required": ["image"]}]}),
                key_pattern=NAME,
            ),
            "services by name; the name is also the host name by which the others reach it",
            required=True,
        ),
        "secrets": KeySchema(MapSchema(_SECRET, key_pattern=SECRET_NAME), "secrets by name, each with its source"),
        "environments": KeySchema(
            MapSchema(_ENVIRONMENT, key_pattern=NAME), "which services run together, by name", required=True
        ),
        "observe": KeySchema(OBSERVE, "what `nox -s observe` watches, keeps and tells"),
    }
)
