"""What a stage file may hold: the shapes of its tables, for the reader and for the JSON Schema."""

from __future__ import annotations

from buildkit.declare.schema import Field, Flag, ListOf, MapOf, Table, Text, Whole

STAGE_NAME = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"
SAY_STAGE_NAME = "a stage name (lower case letters, digits, `.`, `_`, `-`)"
PINNED_IMAGE = r"[a-z0-9][A-Za-z0-9./:_-]*@sha256:[0-9a-f]{64}"
VARIANTS = ("extract", "custom", "essential", "apt", "minbase")

_TEXT = Text()
_ABSOLUTE = Text(r"/[^\0]*", "an absolute path in the image")
_RELATIVE = Text(r"(?!/)(?!(?:[^\0]*/)?\.\.(?:/|$))[^\0]+", "a path in the repository (relative, without `..`)")
_STAGE = Text(STAGE_NAME, SAY_STAGE_NAME)
_ARGV = ListOf(_TEXT, least=1)
_NAME = Text(r"[a-z_][a-z0-9_-]*", "an account name")
_ID = Whole(1, 65533)
_SECONDS = Whole(0, 86400)
SECRET_NAME = r"[a-z][a-z0-9_-]{0,63}"  # noqa: S105 - what names look like
_SECRET = Text(SECRET_NAME, "a secret's name (lower case letters, digits, `_`, `-`)")

_USER = Table(
    {
        "name": Field(_NAME, "account and group name", required=True),
        "uid": Field(_ID, "user id", required=True),
        "gid": Field(_ID, "group id; the user id unless said"),
        "home": Field(_ABSOLUTE, "home folder; /home/NAME unless said"),
        "shell": Field(_ABSOLUTE, "login shell; /usr/sbin/nologin unless said"),
    }
)
_ROOT = Table(
    {
        "image": Field(
            Text(PINNED_IMAGE, "an image pinned by digest (NAME@sha256:...)"), "a registry image, by digest"
        ),
        "suite": Field(Text(r"[a-z0-9][a-z0-9.-]*", "a Debian suite"), "Debian suite, e.g. trixie"),
        "packages": Field(_RELATIVE, "apt list; its lock stands beside it as LIST.lock"),
        "variant": Field(Text(choices=VARIANTS), "mmdebstrap variant; minbase unless said"),
        "components": Field(ListOf(_TEXT, least=1), 'archive components; ["main"] unless said'),
        "exclude": Field(ListOf(_TEXT), "glob patterns of paths to leave out"),
        "drop-setuid": Field(Flag(), "clear every setuid and setgid bit"),
        "user": Field(ListOf(_USER), "accounts to add"),
    },
    rules={"oneOf": [{"required": ["image"], "maxProperties": 1}, {"required": ["suite", "packages"]}]},
)
_MOUNT = Table(
    {
        "source": Field(_RELATIVE, "file or folder of the repository", required=True),
        "target": Field(_ABSOLUTE, "where the step sees it; must exist in the root", required=True),
    }
)
_RUN = Table(
    {
        "name": Field(_TEXT, "what people see"),
        "command": Field(_ARGV, "argument list"),
        "script": Field(_TEXT, "text for /bin/sh -eu -c"),
        "network": Field(Flag(), "whether the step may use the network; false unless said"),
        "env": Field(MapOf(_TEXT), "environment of this step alone"),
        "secrets": Field(ListOf(_SECRET), "secrets that this step alone sees, each as /run/secrets/NAME"),
        "mount": Field(ListOf(_MOUNT), "read-only bind mounts"),
    },
    rules={"oneOf": [{"required": ["command"]}, {"required": ["script"]}]},
)
_HEALTH = Table(
    {
        "test": Field(_ARGV, "argument list; exit code 0 means well", required=True),
        "interval": Field(_SECONDS, "seconds between two checks"),
        "timeout": Field(_SECONDS, "seconds until a check counts as failed"),
        "start-period": Field(_SECONDS, "seconds in which failures do not count"),
        "retries": Field(Whole(1, 100), "failures in a row until unhealthy"),
    }
)
_CONFIG = Table(
    {
        "user": Field(_TEXT, "user the container runs as"),
        "workdir": Field(_ABSOLUTE, "working directory"),
        "entrypoint": Field(_ARGV, "argument list"),
        "cmd": Field(_ARGV, "argument list"),
        "env": Field(MapOf(_TEXT), "environment variables"),
        "ports": Field(ListOf(Text(r"[0-9]{1,5}(/(tcp|udp))?", "a port (8000 or 53/udp)")), "exposed ports"),
        "volumes": Field(ListOf(_ABSOLUTE), "volumes"),
        "labels": Field(MapOf(_TEXT, key_pattern=r"[a-zA-Z0-9][a-zA-Z0-9._/-]*"), "labels"),
        "stop-signal": Field(Text(r"SIG[A-Z0-9+-]+|[0-9]+", "a signal"), "signal that stops the container"),
        "healthcheck": Field(_HEALTH, "health check"),
    }
)
_MODELS = Table(
    {
        "lock": Field(_RELATIVE, "models lock", required=True),
        "target": Field(_ABSOLUTE, "folder above the models' own folders; /models unless said"),
        "names": Field(ListOf(_TEXT), "which models; all of the lock unless said"),
    }
)
_COPY = Table(
    {
        "source": Field(_RELATIVE, "folder or file beside the stage file", required=True),
        "target": Field(_ABSOLUTE, "where it goes", required=True),
    }
)
_SIZE = Text(r"[1-9][0-9]{0,11}[kmg]?", "a size (512m, 2g; bytes without a letter)")
_RUNNING = Table(
    {
        "memory": Field(_SIZE, "most memory, swap included; 1g unless said"),
        "pids": Field(Whole(1, 4194304), "most processes and threads; 256 unless said"),
        "tmpfs": Field(
            MapOf(_SIZE, key_pattern=r"/[A-Za-z0-9._/-]+"),
            "folders in memory that may be written; /tmp = 64m unless said",
        ),
        "outgoing": Field(Flag(), "whether it may open connections to elsewhere; false unless said"),
        "stop-seconds": Field(Whole(1, 3600), "seconds that it has to end when asked; 10 unless said"),
    }
)
STAGE = Table(
    {
        "summary": Field(_TEXT, "one line that says what the stage is", required=True),
        "from": Field(_STAGE, "stage whose root, layers and config this one inherits"),
        "include": Field(ListOf(_STAGE), "stages whose layers are added"),
        "ships": Field(Flag(), "whether `nox -s build` builds it; false unless said"),
        "root": Field(_ROOT, "the operating system, for a stage without `from`"),
        "apt": Field(Table({"packages": Field(_RELATIVE, "apt list", required=True)}), "packages on top"),
        "run": Field(ListOf(_RUN), "steps inside the root"),
        "wheels": Field(
            Table({"locks": Field(ListOf(_RELATIVE, least=1), "requirements locks", required=True)}),
            "Python packages",
        ),
        "models": Field(_MODELS, "model files"),
        "copy": Field(ListOf(_COPY), "files of the repository"),
        "config": Field(_CONFIG, "image config"),
        "running": Field(_RUNNING, "what a container of the image may use; no part of the image"),
    },
    rules={
        "not": {"required": ["root", "from"]},
        "if": {"anyOf": [{"required": ["run"]}, {"required": ["apt"]}]},
        "then": {"anyOf": [{"required": ["root"]}, {"required": ["from"]}]},
    },
)
