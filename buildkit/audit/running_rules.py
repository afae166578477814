"""The rules of the audit of a running container. Sections are those of the CIS Docker Benchmark 1.6.0."""

from __future__ import annotations

from buildkit.audit.cis import cis
from buildkit.findings import Rule, Severity

HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW

DOES_NOT_RUN = Rule(
    id="does-not-run",
    title="The container ends under the recommended flags",
    severity=HIGH,
    why="An image that only runs with more rights is always run with more rights.",
    advice="Read its log: list folders that it writes to in tmpfs of [running], and use a port above 1023.",
)
PROCESS_ROOT = Rule(
    id="process-root",
    title="A process runs as root",
    severity=HIGH,
    why="An attacker who takes it over needs one kernel flaw, or one careless mount, to be root on the host.",
    advice='Set user = "…" in [config], and start nothing as root.',
    references=cis("4.1"),
)
PROCESS_CAPABILITIES = Rule(
    id="process-capabilities",
    title="A process has capabilities",
    severity=HIGH,
    why="Each capability is a part of root's power; a setuid program regains those of the bounding set.",
    advice="Run it with --cap-drop=all, and add the ones that it needs with --cap-add.",
    references=cis("5.4"),
)
NEW_PRIVILEGES = Rule(
    id="new-privileges",
    title="A process may gain privileges",
    severity=HIGH,
    why="A setuid program, or one with capabilities, gives its rights to any process that starts it.",
    advice="Run it with --security-opt=no-new-privileges.",
    references=cis("5.26"),
)
NO_SECCOMP = Rule(
    id="no-seccomp",
    title="System calls are not filtered",
    severity=HIGH,
    why="Most container escapes begin with a system call that no service needs.",
    advice="Keep the profile of `nox -s run-STAGE`, or podman's own: no seccomp=unconfined, no --privileged.",
    references=cis("5.22"),
)
ROOT_WRITABLE = Rule(
    id="root-writable",
    title="The root file system can be written to",
    severity=HIGH,
    why="An intruder can change programs and libraries, and persist until the container is removed.",
    advice="Run it with --read-only --read-only-tmpfs=false; list what must be writable in tmpfs of [running].",
    references=cis("5.13"),
)
WRITABLE_PLACE = Rule(
    id="writable-place",
    title="An undeclared path is writable",
    severity=MEDIUM,
    why="Files that are written there persist, or may be imported.",
    advice="Leave the volume out, or list the folder in tmpfs of [running].",
    references=cis("5.13"),
)
EXECUTABLE_PLACE = Rule(
    id="executable-place",
    title="Written files can be executed",
    severity=MEDIUM,
    why="An intruder who can write and execute files brings their own programs, despite a read-only root.",
    advice="Mount it with noexec and nosuid, as tmpfs of [running] does.",
    references=cis("5.13"),
)
NO_MEMORY_LIMIT = Rule(
    id="no-memory-limit",
    title="Memory is not limited",
    severity=MEDIUM,
    why="One large request makes the host swap, and the kernel kill other processes.",
    advice="Run it with equal --memory and --memory-swap; if this host cannot, see nox -s doctor.",
    references=cis("5.11"),
)
NO_PIDS_LIMIT = Rule(
    id="no-pids-limit",
    title="The number of processes is not limited",
    severity=MEDIUM,
    why="A fork bomb leaves no processes for the rest of the host.",
    advice="Run it with --pids-limit; if this host cannot, see nox -s doctor.",
    references=cis("5.29"),
)
UNDECLARED_PORT = Rule(
    id="undeclared-port",
    title="A process listens on a port that the image does not expose",
    severity=MEDIUM,
    why="Containers on the same network can reach it; debuggers, metrics and admin pages are found this way.",
    advice="Turn it off, bind it to 127.0.0.1, or list it in ports of [config].",
    references=cis("5.9"),
)
SILENT_PORT = Rule(
    id="silent-port",
    title="Nothing listens on a port that the image exposes",
    severity=MEDIUM,
    why="The service does not answer, or listens on another port than documented.",
    advice="List the port that it listens on in ports of [config], and let it listen on 0.0.0.0.",
    references=cis("5.9"),
)
WAY_OUT = Rule(
    id="way-out",
    title="The container can open outgoing connections",
    severity=MEDIUM,
    why="An intruder uses it to send data out and to fetch tools.",
    advice="Use a network with no_default_route=1 (podman 4.6, netavark 1.7), or set outgoing = true in [running].",
    references=cis("5.30"),
)
SHARED_NAMESPACE = Rule(
    id="shared-namespace",
    title="The container shares a namespace with the host",
    severity=HIGH,
    why="It can see and disturb the host's processes, network or shared memory.",
    advice="Do not use --network=host, --pid=host, --ipc=host or --uts=host.",
    references=cis("5.10", "5.16", "5.17", "5.21"),
)
ENVIRONMENT_SECRET = Rule(
    id="environment-secret",
    title="A process has a secret in its environment",
    severity=HIGH,
    why="It is visible in `podman inspect`, in crash reports, and to every program that the service starts.",
    advice="Pass it as a file (podman run --secret), and remove it from env of [config].",
    references=cis("4.10"),
)
HEALTH_MISSING = Rule(
    id="health-missing",
    title="The container has no health check",
    severity=LOW,
    why="A service that hangs is neither noticed nor restarted.",
    advice="Add [config.healthcheck] to the stage file.",
    references=cis("4.6", "5.27"),
)
HEALTH_FAILS = Rule(
    id="health-fails",
    title="The health check does not pass",
    severity=HIGH,
    why="The service does not answer under the recommended flags, or the check cannot run under them.",
    advice="Run podman healthcheck run NAME, and read podman logs NAME.",
    references=cis("5.27"),
)
HEALTH_BLIND = Rule(
    id="health-blind",
    title="The health check passes while the service hangs",
    severity=MEDIUM,
    why="It reports success whatever happens, which is worse than no check.",
    advice="Let it send the service a request, with a timeout.",
    references=cis("5.27"),
)
IGNORES_STOP = Rule(
    id="ignores-stop",
    title="The service does not stop when asked",
    severity=MEDIUM,
    why="Each deployment kills it in the middle of requests; as process 1 it must handle the signal itself.",
    advice='Handle SIGTERM, or use tini as the entrypoint: entrypoint = ["tini", "--"].',
)
NOT_TRIED = Rule(
    id="not-tried",
    title="Writing could not be tried",
    severity=Severity.NOTE,
    why="The image has no interpreter to try it with; only the mounts were checked.",
    advice="Nothing needs to be done.",
)
