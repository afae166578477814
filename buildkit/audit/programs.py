"""Programs that help an intruder, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildkit.audit import program_rules as rules
from buildkit.audit.layer_view import TarEntry
from buildkit.audit.view import ImageView, format_untrusted
from buildkit.findings import Finding, Rule

_WORDS: tuple[tuple[Rule, str], ...] = (
    (
        rules.SHELL,
        ("sh bash rbash dash ash zsh ksh mksh csh tcsh fish busybox toybox yash elvish nu pwsh"),
    ),
    (
        rules.PACKAGE_MANAGER,
        (
            "apt apt-get apt-cache apt-mark apt-key aptitude dpkg dpkg-deb dpkg-split dselect yum dnf dnf5 "
            "microdnf tdnf zypper rpm apk pacman opkg snap flatpak nix nix-env brew pip pip3 pipx uv uvx poetry "
            "pdm conda mamba micromamba easy_install npm npx yarn pnpm corepack gem bundle cargo rustup cpan "
            "cpanm luarocks composer"
        ),
    ),
    (
        rules.COMPILER,
        (
            "cc c++ gcc g++ cpp clang clang++ tcc go rustc ld ld.bfd ld.gold ld.lld lld as gas make gmake cmake "
            "ninja meson javac ghc nvcc cicc ptxas gfortran f77 f95 flang ifort icc swiftc zig bison yacc flex "
            "autoconf automake libtool m4 patch objcopy"
        ),
    ),
    (
        rules.DOWNLOADER,
        (
            "curl wget wget2 aria2c axel nc ncat netcat nc.openbsd nc.traditional socat telnet ftp lftp tftp sftp "
            "scp ssh rsync git hg svn gsutil gcloud aws az rclone s5cmd mc http https httpie links lynx w3m "
            "elinks torsocks tor chisel ngrok cloudflared kubectl docker podman skopeo crane hf huggingface-cli "
            "nmap masscan dig nslookup host"
        ),
    ),
    (
        rules.DEBUGGER,
        (
            "gdb gdbserver lldb lldb-server strace ltrace valgrind perf bpftrace bpftool py-spy pyrasite austin "
            "rr tcpdump tshark dumpcap ngrep radare2 r2 debugpy"
        ),
    ),
    (
        rules.INTERPRETER,
        (
            "perl ruby node nodejs deno bun lua luajit php tclsh wish guile awk gawk mawk nawk original-awk "
            "Rscript java julia expect ipython jupyter jupyter-lab jupyter-notebook"
        ),
    ),
    (rules.REMOTE_LOGIN, "sshd dropbear telnetd in.telnetd rlogind rshd vncserver Xvnc xrdp sshfs-server ttyd wetty"),
)
_NUMBERED = re.compile(r"(?:-?[0-9]+(?:\.[0-9]+)*)$")
_PREFIXED = re.compile(r"^[a-z0-9_]{3,20}-(?:[a-z0-9]{2,10}-)?linux-(?:gnu|musl)[a-z0-9]{0,10}-")
RULE_BY_PROGRAM = {name: rule for rule, words in _WORDS for name in words.split()}
STANDARD = (
    "usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin", "usr/games", "usr/local/games",
    "opt/conda/bin", "root/.local/bin", "root/.cargo/bin",
)  # fmt: skip
_MODULES = ("pip", "uv", "conda")
_SHOWN = 12


def check_programs(view: ImageView) -> Iterator[Finding]:
    """Yield one finding for each kind of program, naming all of that kind."""
    found: dict[str, dict[str, None]] = {}
    kinds = {rule.id: rule for rule in RULE_BY_PROGRAM.values()}
    for entry in executables(view):
        name = entry.path.rpartition("/")[2]
        rule = find_program_rule(name)
        if rule is not None:
            found.setdefault(rule.id, {})[entry.path] = None
    for module in package_manager_modules(view):
        found.setdefault(rules.PACKAGE_MANAGER.id, {})[module] = None
    for name, paths in found.items():
        shown = ", ".join(f"/{format_untrusted(path)}" for path in list(paths)[:_SHOWN])
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        first = next(iter(paths))
        entry = view.files[first]
        yield Finding(
            rule=kinds[name],
            what=f"{shown}{more}",
            path=first,
            layer=view.layers[entry.layer].digest,
        )


def find_program_rule(name: str) -> Rule | None:
    """Return the rule for a program's name, with or without version and target (``x86_64-linux-gnu-gcc-14``)."""
    plain = _PREFIXED.sub("", name)
    return RULE_BY_PROGRAM.get(name) or RULE_BY_PROGRAM.get(plain) or RULE_BY_PROGRAM.get(_NUMBERED.sub("", plain))


def program_folders(view: ImageView) -> list[str]:
    """Return the folders that contain programs: those of PATH, and the usual ones."""
    folders = [part for part in view.config.variables.get("PATH", "").split(":") if part.startswith("/")]
    found = (view.resolve(part) for part in (*folders, *STANDARD))
    return list(dict.fromkeys(part for part in found if part is not None and part in view.folders))


def executables(view: ImageView) -> Iterator[TarEntry]:
    """Yield programs in these folders, and links to programs; a dangling link is none."""
    for folder in program_folders(view):
        for name in view.folders[folder]:
            path = f"{folder}/{name}" if folder else name
            entry, target = view.files.get(path), view.find(path)
            if (
                entry is not None
                and target is not None
                and target.kind in ("file", "hard link")
                and target.mode & 0o111
            ):
                yield entry


def package_manager_modules(view: ImageView) -> Iterator[str]:
    """Yield package managers that Python starts with ``-m``."""
    for folder in view.folders:
        if folder.rpartition("/")[2] in ("site-packages", "dist-packages"):
            for name in _MODULES:
                path = f"{folder}/{name}/__main__.py"
                if path in view.files:
                    yield path
