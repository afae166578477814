"""The schema of stage files, for the parser and for the JSON Schema."""

from __future__ import annotations

from buildkit.declare.apt_archives import KEY, SNAPSHOT, SOURCES
from buildkit.declare.containerfile_root import KEYS as CONTAINERFILE_KEYS
from buildkit.declare.framework import FRAMEWORK
from buildkit.declare.gpu_request import GPU
from buildkit.declare.image_names import ROOT_IMAGE
from buildkit.declare.lock_choice import CHOSEN_FROM
from buildkit.declare.schema import (
    BooleanSchema,
    IntegerSchema,
    KeySchema,
    ListSchema,
    MapSchema,
    NumberSchema,
    OneOrMoreSchema,
    TableSchema,
    TextSchema,
    WordOrTableSchema,
)
from buildkit.declare.serve_schema import SERVE

STAGE_NAME = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"
STAGE_NAME_WORDS = "a stage name (lower case letters, digits, `.`, `_`, `-`)"
VARIANTS = ("extract", "custom", "essential", "apt", "minbase")

TEXT = TextSchema()
ABSOLUTE = TextSchema(r"/[^\0]*", "an absolute path in the image")
RELATIVE = TextSchema(r"(?!/)(?!(?:[^\0]*/)?\.\.(?:/|$))[^\0]+", "a path in the repository (relative, without `..`)")
_SOURCE = TextSchema(r"[^\0]+", "a path in the repository")
_STAGE = TextSchema(STAGE_NAME, STAGE_NAME_WORDS)
ARGV = ListSchema(TEXT, least=1)
_NAME = TextSchema(r"[a-z_][a-z0-9_-]*", "an account name")
_ID = IntegerSchema(1, 65533)
_SECONDS = IntegerSchema(0, 86400)
SECRET_NAME = r"[a-z][a-z0-9_-]{0,63}"  # noqa: S105 - a pattern of names
_SECRET = TextSchema(SECRET_NAME, "a secret's name (lower case letters, digits, `_`, `-`)")

_USER = TableSchema(
    {
        "name": KeySchema(_NAME, "account and group name", required=True),
        "uid": KeySchema(_ID, "user id", required=True),
        "gid": KeySchema(_ID, "group id (default: the user id)"),
        "home": KeySchema(ABSOLUTE, "home folder (default: /home/NAME)"),
        "shell": KeySchema(ABSOLUTE, "login shell (default: /usr/sbin/nologin)"),
    }
)
WITH_IMAGE = ("key", "snapshot", "source")
"""Keys of `[root]` that say where `[apt]` on a registry's image takes packages from."""
_ROOT = TableSchema(
    {
        **CONTAINERFILE_KEYS,
        "image": KeySchema(ROOT_IMAGE, "a registry image: by name, locked in requirements/images.lock, or by digest"),
        "suite": KeySchema(TextSchema(r"[a-z0-9][a-z0-9.-]*", "a Debian suite"), "Debian suite, e.g. trixie"),
        "packages": KeySchema(RELATIVE, "apt list; its lock is LIST.lock in the same folder"),
        "variant": KeySchema(TextSchema(choices=VARIANTS), "mmdebstrap variant (default: minbase)"),
        "components": KeySchema(ListSchema(TEXT, least=1), 'archive components (default: ["main"])'),
        "snapshot": SNAPSHOT,
        "key": KEY,
        "source": SOURCES,
        "exclude": KeySchema(ListSchema(TEXT), "glob patterns of paths to leave out"),
        "exclude-file": KeySchema(
            RELATIVE, "file of such patterns, one a line, next to the stage file; `exclude` comes after them"
        ),
        "drop-setuid": KeySchema(BooleanSchema(), "clear every setuid and setgid bit"),
        "user": KeySchema(ListSchema(_USER), "accounts to add"),
    },
    rules={
        "oneOf": [
            {"required": ["image"], "propertyNames": {"enum": ["image", *WITH_IMAGE]}},
            {"required": ["suite", "packages"]},
            {"required": ["containerfile"], "propertyNames": {"enum": list(CONTAINERFILE_KEYS)}},
        ]
    },
)
_MOUNT = TableSchema(
    {
        "source": KeySchema(RELATIVE, "file or folder of the repository", required=True),
        "target": KeySchema(ABSOLUTE, "where the step sees it; must exist in the root", required=True),
    }
)
_RUN = TableSchema(
    {
        "name": KeySchema(TEXT, "what people see"),
        "command": KeySchema(ARGV, "argument list"),
        "script": KeySchema(TEXT, "text for /bin/sh -eu -c"),
        "network": KeySchema(BooleanSchema(), "whether the step may use the network (default: false)"),
        "env": KeySchema(MapSchema(TEXT), "environment of this step alone"),
        "secrets": KeySchema(ListSchema(_SECRET), "secrets that this step alone sees, each as /run/secrets/NAME"),
        "mount": KeySchema(ListSchema(_MOUNT), "read-only bind mounts"),
    },
    rules={"oneOf": [{"required": ["command"]}, {"required": ["script"]}]},
)
HEALTH = TableSchema(
    {
        "test": KeySchema(ARGV, "argument list; exit code 0 means healthy", required=True),
        "interval": KeySchema(_SECONDS, "seconds between two checks"),
        "timeout": KeySchema(_SECONDS, "seconds until a check counts as failed"),
        "start-period": KeySchema(_SECONDS, "seconds in which failures do not count"),
        "retries": KeySchema(IntegerSchema(1, 100), "failures in a row until unhealthy"),
    }
)
_CONFIG = TableSchema(
    {
        "user": KeySchema(TEXT, "user the container runs as"),
        "workdir": KeySchema(ABSOLUTE, "working directory"),
        "entrypoint": KeySchema(ARGV, "argument list"),
        "cmd": KeySchema(ARGV, "argument list"),
        "env": KeySchema(MapSchema(TEXT), "environment variables"),
        "ports": KeySchema(
            ListSchema(TextSchema(r"[0-9]{1,5}(/(tcp|udp))?", "a port (8000 or 53/udp)")), "exposed ports"
        ),
        "volumes": KeySchema(ListSchema(ABSOLUTE), "volumes"),
        "labels": KeySchema(MapSchema(TEXT, key_pattern=r"[a-zA-Z0-9][a-zA-Z0-9._/-]*"), "labels"),
        "stop-signal": KeySchema(TextSchema(r"SIG[A-Z0-9+-]+|[0-9]+", "a signal"), "signal that stops the container"),
        "healthcheck": KeySchema(HEALTH, "health check"),
    }
)
_PROJECT = TextSchema(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", "a name of a package, extra or group")
_WHEELS = TableSchema(
    {
        "locks": KeySchema(
            ListSchema(RELATIVE, least=1),
            "requirements locks, uv.lock, poetry.lock, pylock.toml, pyproject.toml",
            required=True,
        ),
        "package": KeySchema(_PROJECT, "a member of the workspace of a uv.lock (default: the project itself)"),
        "extras": KeySchema(ListSchema(_PROJECT), "extras of the project (of locks of other tools)"),
        "groups": KeySchema(ListSchema(_PROJECT), "dependency groups to add (of locks of other tools)"),
        "only-groups": KeySchema(
            ListSchema(_PROJECT), "dependency groups to take in place of the project and its dependencies"
        ),
        "project": KeySchema(
            BooleanSchema(), "whether packages of the repository itself are installed, too (default: true)"
        ),
        "prefer": KeySchema(
            ListSchema(_PROJECT),
            "packages of these locks whose file the image has where another wheel has a different one at the same "
            "path; the first wins over the next",
        ),
    },
    rules={
        "not": {"anyOf": [{"required": ["only-groups", key]} for key in ("extras", "groups", "project")]},
        "if": {"anyOf": [{"required": [key]} for key in ("package", "extras", "groups", "only-groups", "project")]},
        "then": {"properties": {"locks": {"contains": {"pattern": f"(?:^|/){CHOSEN_FROM}$"}}}},
    },
)
_MODELS = TableSchema(
    {
        "lock": KeySchema(RELATIVE, "models lock"),
        "target": KeySchema(ABSOLUTE, "folder above the models' own folders (default: /models)"),
        "names": KeySchema(ListSchema(TEXT), "which models (default: all of the lock)"),
        "mount": KeySchema(
            BooleanSchema(),
            "whether all models of the image are an image of their own, STAGE-models, that its containers mount "
            "(default: as the stage of `from`)",
        ),
    },
    rules={"anyOf": [{"required": ["lock"]}, {"required": ["mount"]}]},
)
_COPY = TableSchema(
    {
        "source": KeySchema(
            OneOrMoreSchema(_SOURCE),
            "folder or file, next to the stage file or in the repository (`./x`: the stage's, `/x`: the repository's); "
            "each of a list keeps its name below the target",
            required=True,
        ),
        "target": KeySchema(ABSOLUTE, "where it goes; a file whose target ends in `/` keeps its name", required=True),
        "untracked": KeySchema(
            BooleanSchema(), "take files that git does not track or ignores, too, but no __pycache__ (default: false)"
        ),
    }
)
SIZE = TextSchema(r"[1-9][0-9]{0,11}[kmg]?", "a size (512m, 2g; bytes without a letter)")
TMPFS = MapSchema(SIZE, key_pattern=r"/[A-Za-z0-9._/-]+")
METRICS = TextSchema(r"[1-9][0-9]{0,4}/[A-Za-z0-9._~/-]*", "a port and a path (8002/metrics)")
_RUNNING = TableSchema(
    {
        "memory": KeySchema(SIZE, "most memory, swap included (default: 1g)"),
        "pids": KeySchema(IntegerSchema(1, 4194304), "most processes and threads (default: 256)"),
        "cpus": KeySchema(NumberSchema(0.01, 4096), "most CPUs (default: all)"),
        "tmpfs": KeySchema(TMPFS, "folders in memory that may be written (default: /tmp = 64m)"),
        "outgoing": KeySchema(BooleanSchema(), "whether it may open outgoing connections (default: false)"),
        "stop-seconds": KeySchema(IntegerSchema(1, 3600), "seconds to end after the stop signal (default: 10)"),
        "system-calls": KeySchema(
            TextSchema(choices=("service", "default")),
            "system calls it may make: those of a service (the default), or podman's own profile",
        ),
        "metrics": KeySchema(METRICS, "port and path of its metrics for Prometheus (default: none)"),
        "strict": KeySchema(
            BooleanSchema(), "whether run-STAGE fails if the host cannot apply a flag (default: false)"
        ),
    }
)
STAGE = TableSchema(
    {
        "summary": KeySchema(TEXT, "one line that says what the stage is", required=True),
        "from": KeySchema(_STAGE, "stage whose root, layers and config this one inherits"),
        "include": KeySchema(ListSchema(_STAGE), "stages whose layers are added"),
        "ships": KeySchema(BooleanSchema(), "whether `nox -s build` builds it (default: false)"),
        "sbom": KeySchema(BooleanSchema(), "whether the image holds its SBOM in /usr/share/sbom (default: false)"),
        "root": KeySchema(_ROOT, "the operating system, for a stage without `from`"),
        "apt": KeySchema(TableSchema({"packages": KeySchema(RELATIVE, "apt list", required=True)}), "packages on top"),
        "args": KeySchema(
            MapSchema(TextSchema(r"[^\0\n]*", "a text of one line")),
            "build arguments with their defaults; `--arg NAME=VALUE` gives another value",
        ),
        "run": KeySchema(ListSchema(_RUN), "steps inside the root"),
        "wheels": KeySchema(_WHEELS, "Python packages"),
        "models": KeySchema(
            WordOrTableSchema(_MODELS, {"mount": {"mount": True}}), 'model files; "mount" is short for mount = true'
        ),
        "copy": KeySchema(ListSchema(_COPY), "files of the repository"),
        "config": KeySchema(_CONFIG, "image config"),
        "framework": KeySchema(FRAMEWORK, "settings of frameworks, with the module that applies them"),
        "running": KeySchema(_RUNNING, "what a container of the image may use; no part of the image"),
        "serve": KeySchema(SERVE, "models that Triton serves from the image"),
        "gpu": KeySchema(GPU, 'GPUs that a container of the image asks for; "none" does not inherit a request'),
    },
    rules={
        "not": {"required": ["root", "from"]},
        "if": {"anyOf": [{"required": ["run"]}, {"required": ["apt"]}]},
        "then": {"anyOf": [{"required": ["root"]}, {"required": ["from"]}]},
    },
)
