"""The rules of the audit at rest. Sections are those of the CIS Docker Benchmark 1.6.0."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

CRITICAL, HIGH, MEDIUM, LOW, NOTE = sorted(Severity, reverse=True)


def _cis(*sections: str) -> tuple[str, ...]:
    return tuple(f"CIS Docker Benchmark {section}" for section in sections)


USER_ROOT = Rule(
    id="user-root",
    title="The container runs as root",
    severity=HIGH,
    why="Whoever takes over the service is root, one flaw of the kernel or one careless mount away from the host.",
    advice="Add an account ([[root.user]]) and name it: user = \"…\" in [config].",
    references=_cis("4.1"),
)  # fmt: skip
USER_UNKNOWN = Rule(
    id="user-unknown",
    title="The image names a user that it does not have",
    severity=HIGH,
    why="A container of it does not start, or starts as somebody else where the runtime guesses.",
    advice="Add the account ([[root.user]]), or name a number.",
    references=_cis("4.1"),
)
SETUID = Rule(
    id="setuid-file",
    title="A program runs with its owner's rights",
    severity=HIGH,
    why="A setuid or setgid program gives any process of the container its owner's rights, and its flaws with them.",
    advice="Say drop-setuid = true in [root], or leave the package out; run with --security-opt=no-new-privileges.",
    references=_cis("4.8"),
)
FILE_CAPABILITY = Rule(
    id="file-capability",
    title="A program carries capabilities",
    severity=HIGH,
    why="Whoever starts it has rights of root that the service's user was not given.",
    advice="Remove them, or give the capability to the container that needs it.",
    references=_cis("4.8", "5.4"),
)
WORLD_WRITABLE = Rule(
    id="world-writable",
    title="Anybody may write a file or a folder",
    severity=MEDIUM,
    why="What any process may change, an intruder changes: data that others trust, or programs that others start.",
    advice="Take the permission away; a folder for everybody's files needs the sticky bit (mode 1777), as /tmp has.",
)
SHELL = Rule(
    id="shell",
    title="There is a shell",
    severity=MEDIUM,
    why="Nearly every attack that runs a command starts one, and a service needs none.",
    advice="Ship a root without: variant = \"extract\" and `exclude` in [root], as stages/hardened does.",
    references=_cis("4.3"),
)  # fmt: skip
PACKAGE_MANAGER = Rule(
    id="package-manager",
    title="There is a package manager",
    severity=MEDIUM,
    why="It brings an intruder whatever tools are missing, and changes what was audited.",
    advice="Ship a root without; packages are chosen when the image is built.",
    references=_cis("4.3"),
)
COMPILER = Rule(
    id="compiler",
    title="There is a compiler or another tool of builders",
    severity=MEDIUM,
    why="It makes exploits on the spot, and its libraries are flaws to be patched.",
    advice="Compile in the builder stage; what ships needs the result alone.",
    references=_cis("4.3"),
)
DOWNLOADER = Rule(
    id="downloader",
    title="There is a program that moves files or data over the network",
    severity=MEDIUM,
    why="It fetches an intruder's second stage, and carries data out.",
    advice="Leave it out; models and packages are put in when the image is built.",
    references=_cis("4.3"),
)
DEBUGGER = Rule(
    id="debugger",
    title="There is a debugger or a tracer",
    severity=MEDIUM,
    why="It reads the memory of other processes, and their secrets with it.",
    advice="Keep it in the development stage.",
    references=_cis("4.3"),
)
INTERPRETER = Rule(
    id="interpreter",
    title="There is an interpreter beside the service's own",
    severity=LOW,
    why="It does what a shell does.",
    advice="Leave it out if nothing of the service runs in it.",
    references=_cis("4.3"),
)
REMOTE_LOGIN = Rule(
    id="remote-login",
    title="There is a server for logging in",
    severity=HIGH,
    why="Another way in, with keys and passwords of its own to be kept and patched.",
    advice="Leave it out: podman exec and kubectl exec need none.",
    references=_cis("5.7"),
)
WRITABLE_CODE = Rule(
    id="writable-code",
    title="The service's user may change code that Python imports",
    severity=HIGH,
    why="One file written through a flaw of the service is code at its next start, and for every other process.",
    advice="Let the files belong to root, as everything does that buildkit packs; write to a volume outside.",
)
USER_SITE = Rule(
    id="user-site",
    title="Python imports from the user's home",
    severity=MEDIUM,
    why="Python looks into ~/.local/lib/python3.X/site-packages, and the user may write there.",
    advice="Say PYTHONNOUSERSITE = \"1\" in [config.env], use a virtual environment, or give the user no home.",
)  # fmt: skip
STARTUP_CODE = Rule(
    id="startup-code",
    title="Code runs at every start of Python",
    severity=MEDIUM,
    why="sitecustomize, usercustomize and `import` lines of .pth files run before any program; malware hides there.",
    advice="Read it. If a package needs it, keep it, knowing so; else remove the file.",
)
WRITABLE_SEARCH = Rule(
    id="writable-search-path",
    title="The user may put programs or libraries where they are looked for",
    severity=HIGH,
    why="Whoever may write there decides what the next command or library is.",
    advice="Let only folders of root's stand in PATH and LD_LIBRARY_PATH.",
)
RELATIVE_SEARCH = Rule(
    id="relative-search-path",
    title="Programs, libraries or modules are looked for in the current folder",
    severity=HIGH,
    why="An empty or relative entry means whatever folder the process is in, uploads and temporary folders included.",
    advice="Write absolute paths; leave no empty entry (a colon at an end, or two together).",
)
PRELOAD = Rule(
    id="preload",
    title="A library is loaded into every program",
    severity=HIGH,
    why="LD_PRELOAD, LD_AUDIT and /etc/ld.so.preload put code into every process; rootkits live there.",
    advice="Remove it, or start the one program that needs it with the variable.",
)
LIBRARY_PATH = Rule(
    id="library-path",
    title="LD_LIBRARY_PATH says where libraries are",
    severity=LOW,
    why="It goes before the system's own places for every program, and hides which library is used.",
    advice="Leave it away where the libraries are found without: wheels bring their own.",
)
HOOK_VARIABLE = Rule(
    id="hook-variable",
    title="A variable makes interpreters run or trust something",
    severity=MEDIUM,
    why="Such variables start code before the program does, or switch off what protects it.",
    advice="Remove it from [config.env].",
    references=("CVE-2023-4911",),
)
SECRET_FILE = Rule(
    id="secret-in-layer",
    title="A layer holds a secret",
    severity=CRITICAL,
    why="Whoever pulls the image has it, also if a later layer deletes the file.",
    advice="Take it out of the checkout, withdraw it where it is valid, build anew; a container is given it.",
    references=_cis("4.10"),
)
SECRET_CONFIG = Rule(
    id="secret-in-config",
    title="The image's config holds a secret",
    severity=CRITICAL,
    why="Environment, labels, commands and history are shown to whoever may see the image, in every listing.",
    advice="Withdraw it where it is valid, build anew without; give it to the container when it runs.",
    references=_cis("4.10"),
)
SECRET_KEYS = Rule(
    id="published-key",
    title="An installed package has a private key among its tests or examples",
    severity=NOTE,
    why="Such a key is known to everybody; it does no harm unless something is made to trust it.",
    advice="Nothing, if nobody uses it.",
)
REPOSITORY = Rule(
    id="source-repository",
    title="The image holds a repository's history",
    severity=MEDIUM,
    why="It holds everything that was ever committed, removed secrets included, and often a log-in.",
    advice="Copy what git tracks, not the folder; buildkit does so.",
)
PRIVILEGED_PORT = Rule(
    id="privileged-port",
    title="A port below 1024 is exposed",
    severity=MEDIUM,
    why="To listen there takes a capability or root, and clients take such a port for a system's service.",
    advice="Listen on a port above 1023, and publish it as any other.",
    references=_cis("5.8"),
)
RISKY_PORT = Rule(
    id="risky-port",
    title="A port for logging in or debugging is exposed",
    severity=HIGH,
    why="Whoever reaches it runs commands in the container.",
    advice="Leave it out of what ships.",
    references=_cis("5.7", "5.9"),
)
NO_HEALTHCHECK = Rule(
    id="no-healthcheck",
    title="The image has no HEALTHCHECK",
    severity=LOW,
    why="A service that hangs is never noticed by who runs the container.",
    advice="Add [config.healthcheck] to the stage.",
    references=_cis("4.6"),
)
COMMAND_MISSING = Rule(
    id="command-missing",
    title="A command of the config is not in the image",
    severity=HIGH,
    why="The container does not start, or its health check always fails.",
    advice="Name a program that the image has; a root without a shell runs no `CMD-SHELL`.",
    references=_cis("4.6"),
)
UNPINNED = Rule(
    id="base-unpinned",
    title="Nothing says what the image's base is",
    severity=LOW,
    why="The same build gives another image tomorrow, and nobody can tell whether its base was trustworthy.",
    advice="Pin it: a lock of Debian packages, or image = \"…@sha256:…\" in [root].",
    references=_cis("4.2"),
)  # fmt: skip
LABELS = Rule(
    id="labels-missing",
    title="The image does not say what it is",
    severity=LOW,
    why="Whoever finds it running cannot tell what it is for, or whom to ask.",
    advice="Give it org.opencontainers.image.title and .description; buildkit does so.",
)
LATEST = Rule(
    id="latest-tag",
    title="The image is named by a tag that moves",
    severity=LOW,
    why="`latest` is another image tomorrow: what was audited is not what is run.",
    advice="Name a version, or the digest.",
    references=_cis("4.2"),
)
LARGER = Rule(
    id="larger-than-peer",
    title="The image is larger than the one that it should be smaller than",
    severity=LOW,
    why="A hardened image that has grown holds something that it need not.",
    advice="Look at what its root holds: nox -s plan, podman history.",
    references=_cis("4.3"),
)
DEVICE = Rule(
    id="device-node",
    title="A layer holds a device",
    severity=HIGH,
    why="Where the container may use devices, it opens a way to the host's disks and memory.",
    advice="Remove it: the runtime makes the devices that a container needs.",
)
HOSTILE_MEMBER = Rule(
    id="hostile-member",
    title="A layer's tar does what no honest tar does",
    severity=HIGH,
    why="Paths that lead out, through links, or come twice make unpackers write elsewhere, and tools see two images.",
    advice="Do not run it; ask who made it.",
    references=("CVE-2014-6407",),
)
ODD_NAME = Rule(
    id="odd-name",
    title="A file's name has characters that hide it",
    severity=LOW,
    why="Escapes, line breaks and invalid text forge what terminals and logs show.",
    advice="Rename or remove it.",
)
LINK_ESCAPES = Rule(
    id="link-escapes",
    title="A symbolic link climbs above the root",
    severity=MEDIUM,
    why="In the container it ends at the root; whoever unpacks or mounts the image carelessly follows it to the host.",
    advice="Let it be absolute, or remove it.",
    references=("CVE-2014-9356",),
)
SECOND_ROOT = Rule(
    id="second-root",
    title="Another account has uid 0",
    severity=HIGH,
    why="It is root under a name that nobody looks for.",
    advice="Remove the account.",
)
DUPLICATE_ACCOUNT = Rule(
    id="duplicate-account",
    title="Two accounts share a name or a uid",
    severity=LOW,
    why="Which of them a program means is chance.",
    advice="Give each its own.",
)
EMPTY_PASSWORD = Rule(
    id="empty-password",
    title="An account has an empty password",
    severity=HIGH,
    why="Any program that asks for it lets anybody in.",
    advice="Lock it: `!` or `*` in /etc/shadow.",
    references=("CVE-2019-5021",),
)
PASSWORD = Rule(
    id="password-set",
    title="An account has a password",
    severity=MEDIUM,
    why="Its hash is in every copy of the image, to be guessed at leisure.",
    advice="Lock it: `!` or `*` in /etc/shadow.",
    references=_cis("4.10"),
)
ACCOUNTS_WRITABLE = Rule(
    id="accounts-writable",
    title="The service's user may change the accounts",
    severity=HIGH,
    why="Whoever may write /etc/passwd or /etc/shadow is root as soon as a program with root's rights asks.",
    advice="Let them belong to root, mode 644, and shadow 640.",
)
ADD_STEP = Rule(
    id="add-step",
    title="The history has an ADD",
    severity=LOW,
    why="ADD fetches from the network and unpacks archives, without saying what came.",
    advice="Use COPY, or a lock with hashes.",
    references=_cis("4.9"),
)
UPDATE_ALONE = Rule(
    id="update-alone",
    title="The history updates package lists in a step of its own",
    severity=LOW,
    why="A builder that caches steps installs from old lists ever after.",
    advice="Update and install in one step, or install from a lock.",
    references=_cis("4.7"),
)
SOCKET_VOLUME = Rule(
    id="engine-socket",
    title="The image asks for the engine's socket",
    severity=HIGH,
    why="Whoever can speak to it is root on the host.",
    advice="Remove the volume.",
    references=_cis("5.32"),
)

RULES: tuple[Rule, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Rule))
