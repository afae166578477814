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
    why="An attacker who takes over the service is root, one kernel flaw or one careless mount away from the host.",
    advice="Add an account ([[root.user]]) and name it: user = \"…\" in [config].",
    references=_cis("4.1"),
)  # fmt: skip
USER_UNKNOWN = Rule(
    id="user-unknown",
    title="The image names a user that is not in it",
    severity=HIGH,
    why="Its container does not start, or runs as another user if the runtime guesses.",
    advice="Add the account ([[root.user]]), or name a number.",
    references=_cis("4.1"),
)
SETUID = Rule(
    id="setuid-file",
    title="A program runs with its owner's rights",
    severity=HIGH,
    why="A setuid or setgid program gives any process of the container its owner's rights, and its flaws with them.",
    advice="Set drop-setuid = true in [root], or leave the package out; run with --security-opt=no-new-privileges.",
    references=_cis("4.8"),
)
FILE_CAPABILITY = Rule(
    id="file-capability",
    title="A program carries capabilities",
    severity=HIGH,
    why="Any user who starts it gets rights of root that the service's user does not have.",
    advice="Remove them, or give the capability to the container that needs it.",
    references=_cis("4.8", "5.4"),
)
WORLD_WRITABLE = Rule(
    id="world-writable",
    title="Anyone may write to a file or a folder",
    severity=MEDIUM,
    why="An intruder can change what any process can: data that others trust, or programs that others start.",
    advice="Remove the permission; a shared folder needs the sticky bit (mode 1777), as /tmp has.",
)
SHELL = Rule(
    id="shell",
    title="There is a shell",
    severity=MEDIUM,
    why="Nearly every attack that runs a command starts a shell, and a service needs none.",
    advice="Ship a root without one: variant = \"extract\" and `exclude` in [root], as stages/hardened does.",
    references=_cis("4.3"),
)  # fmt: skip
PACKAGE_MANAGER = Rule(
    id="package-manager",
    title="There is a package manager",
    severity=MEDIUM,
    why="It gives an intruder any tool that is missing, and changes what was audited.",
    advice="Ship a root without one; packages are chosen when the image is built.",
    references=_cis("4.3"),
)
COMPILER = Rule(
    id="compiler",
    title="There is a compiler or another build tool",
    severity=MEDIUM,
    why="It builds exploits on the spot, and its libraries need patches of their own.",
    advice="Compile in the builder stage; the shipped image needs only the result.",
    references=_cis("4.3"),
)
DOWNLOADER = Rule(
    id="downloader",
    title="There is a program that moves files or data over the network",
    severity=MEDIUM,
    why="It fetches an intruder's tools, and sends data out.",
    advice="Leave it out; models and packages are added when the image is built.",
    references=_cis("4.3"),
)
DEBUGGER = Rule(
    id="debugger",
    title="There is a debugger or a tracer",
    severity=MEDIUM,
    why="It reads the memory of other processes, including their secrets.",
    advice="Keep it in the development stage.",
    references=_cis("4.3"),
)
INTERPRETER = Rule(
    id="interpreter",
    title="There is an interpreter besides the service's own",
    severity=LOW,
    why="It can do what a shell does.",
    advice="Leave it out if the service does not use it.",
    references=_cis("4.3"),
)
REMOTE_LOGIN = Rule(
    id="remote-login",
    title="There is a login server",
    severity=HIGH,
    why="It is another way in, with its own keys and passwords, and needs patches.",
    advice="Leave it out: podman exec and kubectl exec need none.",
    references=_cis("5.7"),
)
WRITABLE_CODE = Rule(
    id="writable-code",
    title="The service's user may change code that Python imports",
    severity=HIGH,
    why="A file written through a flaw of the service becomes code at its next start, and in every other process.",
    advice="Let root own the files, as it owns everything that buildkit packs; write to a volume.",
)
USER_SITE = Rule(
    id="user-site",
    title="Python imports from the user's home",
    severity=MEDIUM,
    why="Python searches ~/.local/lib/python3.X/site-packages, and the user may write there.",
    advice="Set PYTHONNOUSERSITE = \"1\" in [config.env], use a virtual environment, or give the user no home.",
)  # fmt: skip
STARTUP_CODE = Rule(
    id="startup-code",
    title="Code runs at every start of Python",
    severity=MEDIUM,
    why="sitecustomize, usercustomize and `import` lines of .pth files run before any program; malware hides there.",
    advice="Read it. Keep it if a package needs it; else remove the file.",
)
WRITABLE_SEARCH = Rule(
    id="writable-search-path",
    title="The user may write to a search path of programs or libraries",
    severity=HIGH,
    why="A process that may write there decides which command or library is used next.",
    advice="List only folders owned by root in PATH and LD_LIBRARY_PATH.",
)
RELATIVE_SEARCH = Rule(
    id="relative-search-path",
    title="Programs, libraries or modules are searched for in the current folder",
    severity=HIGH,
    why="An empty or relative entry means the process's current folder, which may hold uploads or temporary files.",
    advice="Use absolute paths; leave no empty entry (a leading, trailing or double colon).",
)
PRELOAD = Rule(
    id="preload",
    title="A library is loaded into every program",
    severity=HIGH,
    why="LD_PRELOAD, LD_AUDIT and /etc/ld.so.preload load code into every process; rootkits use them.",
    advice="Remove it, or set the variable only for the program that needs it.",
)
LIBRARY_PATH = Rule(
    id="library-path",
    title="LD_LIBRARY_PATH is set",
    severity=LOW,
    why="It precedes the system's folders for every program, and obscures which library is used.",
    advice="Remove it if the libraries are found without it: wheels contain their own.",
)
HOOK_VARIABLE = Rule(
    id="hook-variable",
    title="A variable makes interpreters run or trust something",
    severity=MEDIUM,
    why="Such variables run code before the program starts, or disable its protection.",
    advice="Remove it from [config.env].",
    references=("CVE-2023-4911",),
)
SECRET_FILE = Rule(
    id="secret-in-layer",
    title="A layer contains a secret",
    severity=CRITICAL,
    why="Everyone who pulls the image has it, even if a later layer deletes the file.",
    advice="Remove it from the checkout, revoke it, and rebuild; pass it to the container at run time.",
    references=_cis("4.10"),
)
SECRET_CONFIG = Rule(
    id="secret-in-config",
    title="The image's config contains a secret",
    severity=CRITICAL,
    why="Environment, labels, commands and history are visible to everyone who can see the image.",
    advice="Revoke it, and rebuild without it; pass it to the container at run time.",
    references=_cis("4.10"),
)
SECRET_KEYS = Rule(
    id="published-key",
    title="An installed package has a private key in its tests or examples",
    severity=NOTE,
    why="Such a key is public; it does no harm unless something trusts it.",
    advice="Nothing, if it is not used.",
)
REPOSITORY = Rule(
    id="source-repository",
    title="The image contains a repository's history",
    severity=MEDIUM,
    why="It contains everything that was ever committed, including removed secrets, and often a login.",
    advice="Copy what git tracks, not the folder; buildkit does so.",
)
PRIVILEGED_PORT = Rule(
    id="privileged-port",
    title="A port below 1024 is exposed",
    severity=MEDIUM,
    why="Listening there takes a capability or root, and clients take such a port for a system service.",
    advice="Listen on a port above 1023, and publish it as another one.",
    references=_cis("5.8"),
)
RISKY_PORT = Rule(
    id="risky-port",
    title="A port for login or debugging is exposed",
    severity=HIGH,
    why="Everyone who can reach it can run commands in the container.",
    advice="Leave it out of the shipped image.",
    references=_cis("5.7", "5.9"),
)
NO_HEALTHCHECK = Rule(
    id="no-healthcheck",
    title="The image has no HEALTHCHECK",
    severity=LOW,
    why="The engine never notices that a service hangs.",
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
    title="The image's base is not pinned",
    severity=LOW,
    why="The same build gives another image tomorrow, and no one can verify its base.",
    advice="Pin it: a lock of Debian packages, or image = \"…@sha256:…\" in [root].",
    references=_cis("4.2"),
)  # fmt: skip
LABELS = Rule(
    id="labels-missing",
    title="The image has no title or description",
    severity=LOW,
    why="Someone who finds it running cannot tell its purpose or its owner.",
    advice="Set org.opencontainers.image.title and .description, as buildkit does.",
)
LATEST = Rule(
    id="latest-tag",
    title="The image is named by a tag that moves",
    severity=LOW,
    why="`latest` is another image tomorrow: what runs is not what was audited.",
    advice="Use a version, or the digest.",
    references=_cis("4.2"),
)
LARGER = Rule(
    id="larger-than-peer",
    title="The image is larger than the image that it should be smaller than",
    severity=LOW,
    why="A hardened image that has grown contains something unnecessary.",
    advice="Inspect its root: nox -s plan, podman history.",
    references=_cis("4.3"),
)
RECORD_WRONG = Rule(
    id="record-wrong",
    title="A package's record lists files that are not in the image",
    severity=LOW,
    why="Scanners believe records: they report flaws of files that are gone, and say nothing of those that have none.",
    advice="Remove a package whole, with its record; of a trimmed root keep in each record what is left.",
)
DEVICE = Rule(
    id="device-node",
    title="A layer contains a device",
    severity=HIGH,
    why="If the container may use devices, it gives access to the host's disks and memory.",
    advice="Remove it: the runtime creates the devices that a container needs.",
)
HOSTILE_MEMBER = Rule(
    id="hostile-member",
    title="A layer's tar has a hostile member",
    severity=HIGH,
    why="Paths that leave the root, follow links or repeat make unpackers write outside, and tools disagree.",
    advice="Do not run it; ask its author.",
    references=("CVE-2014-6407",),
)
ODD_NAME = Rule(
    id="odd-name",
    title="A file's name has deceptive characters",
    severity=LOW,
    why="Escapes, line breaks and invalid text forge the output of terminals and logs.",
    advice="Rename or remove it.",
)
LINK_ESCAPES = Rule(
    id="link-escapes",
    title="A symbolic link climbs above the root",
    severity=MEDIUM,
    why="In the container it ends at the root; a careless unpacker or mount follows it to the host.",
    advice="Make it absolute, or remove it.",
    references=("CVE-2014-9356",),
)
SECOND_ROOT = Rule(
    id="second-root",
    title="Another account has uid 0",
    severity=HIGH,
    why="It is root under an unexpected name.",
    advice="Remove the account.",
)
DUPLICATE_ACCOUNT = Rule(
    id="duplicate-account",
    title="Two accounts share a name or a uid",
    severity=LOW,
    why="It is undefined which of them a program means.",
    advice="Give each a unique one.",
)
EMPTY_PASSWORD = Rule(
    id="empty-password",
    title="An account has an empty password",
    severity=HIGH,
    why="Any program that checks it lets everyone in.",
    advice="Lock it: `!` or `*` in /etc/shadow.",
    references=("CVE-2019-5021",),
)
PASSWORD = Rule(
    id="password-set",
    title="An account has a password",
    severity=MEDIUM,
    why="Its hash is in every copy of the image, for offline guessing.",
    advice="Lock it: `!` or `*` in /etc/shadow.",
    references=_cis("4.10"),
)
ACCOUNTS_WRITABLE = Rule(
    id="accounts-writable",
    title="The service's user may change the accounts",
    severity=HIGH,
    why="A process that may write /etc/passwd or /etc/shadow becomes root as soon as a privileged program reads them.",
    advice="Let root own them, with mode 644, and 640 for shadow.",
)
ADD_STEP = Rule(
    id="add-step",
    title="The history has an ADD instruction",
    severity=LOW,
    why="ADD downloads files and unpacks archives, without verifying them.",
    advice="Use COPY, or a lock with hashes.",
    references=_cis("4.9"),
)
UPDATE_ALONE = Rule(
    id="update-alone",
    title="The history updates package lists in a step of its own",
    severity=LOW,
    why="A builder that caches steps keeps installing from old lists.",
    advice="Update and install in one step, or install from a lock.",
    references=_cis("4.7"),
)
SOCKET_VOLUME = Rule(
    id="engine-socket",
    title="The image requests the engine's socket",
    severity=HIGH,
    why="A process that can use it is root on the host.",
    advice="Remove the volume.",
    references=_cis("5.32"),
)

RULES: tuple[Rule, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Rule))
