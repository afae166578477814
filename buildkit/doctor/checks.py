"""Checks of the host: storage, user namespaces, disk, log-ins. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from buildkit.doctor.containersconf import choose_backend, choose_limits
from buildkit.doctor.diagnosis import Diagnosis, error, note, ok, warning
from buildkit.doctor.facts import DiskSpace, HostFacts
from buildkit.doctor.gpu_checks import check_gpus
from buildkit.doctor.mps_checks import check_mps
from buildkit.doctor.tool_checks import check_rootless_tools, check_runtime, check_tools, is_older
from buildkit.report.text import format_bytes
from buildkit.tools.file_system import describe_file_system

GB = 1_000_000_000
_RANGE = 65536
# use → free bytes below which builds fail, and below which they may
_ROOM = {"images": (2 * GB, 15 * GB), "cache": (1 * GB, 10 * GB)}
_TEMPORARY_ROOM = (GB // 4, 4 * GB)
ENABLE, DISABLE = "nox -s doctor -- --enable-store", "nox -s doctor -- --disable-store"


def check_storage(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check the storage driver, and whether it finds a step's changes without comparing the whole image."""
    storage = facts.storage
    if storage.problem:
        if facts.find_tool("buildah").path:
            yield error("storage", f"buildah cannot use its storage: {storage.problem}", "no image can be kept")
        return
    slow = "every commit copies or compares the whole image: it costs with the image's size, not the change's"
    if storage.driver == "vfs":
        mend = "sudo apt-get install fuse-overlayfs && podman system reset  # removes all images"
        yield warning("storage", "images are kept by vfs, as full copies", slow, mend)
    elif storage.mount_program:
        mend = "remove mount_program from storage.conf: the kernel's own overlay serves users since 5.13"
        yield warning("storage", f"overlay through {storage.mount_program}", slow, mend)
    elif storage.native_diff is False:
        mend = "echo N | sudo tee /sys/module/overlay/parameters/metacopy /sys/module/overlay/parameters/redirect_dir"
        yield warning("storage", f"{storage.driver} without native diff", slow, mend)
    else:
        yield ok("storage", f"{storage.driver} at {storage.graph_root}")


def check_image_store(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check whether podman sees the image store, and whether that can be used where it lies."""
    store, cost = facts.image_store, "every build copies its image into local storage"
    if store.problem:
        yield error("image-store", store.problem, "builds fail", store.mend)
    elif store.is_listed and not (store.exists and store.is_readable):
        why, mend = ("is closed to you", DISABLE) if store.exists else ("is gone", ENABLE)
        what = f"{store.settings_file} names {store.folder}, which {why}"
        yield error("image-store", what, "every command of podman and buildah fails", mend)
    elif why := describe_file_system(store.file_system):
        mend = "export BUILDKIT_STORE=/a/local/disk"
        yield warning("image-store", f"no image store at {store.folder}: {why}", cost, mend)
    elif store.is_listed and facts.storage.driver not in ("", "overlay"):
        yield error("image-store", f"images are kept by {facts.storage.driver}", "podman fails", DISABLE)
    elif store.is_listed:
        yield ok("image-store", f"images need no import: podman sees {store.folder}")
    elif store.folder and facts.storage.driver in ("", "overlay"):
        yield note("image-store", f"podman does not see the image store at {store.folder}", cost, ENABLE)


def check_isolation(facts: HostFacts) -> Iterator[Diagnosis]:
    """Say how steps are kept apart from the host and from each other, and why so."""
    if facts.isolation is None or facts.storage.problem:
        return
    if facts.isolation.is_private:
        yield ok("isolation", f"steps run with {facts.isolation}")
        return
    yield warning(
        "isolation",
        f"steps run with {facts.isolation}",
        "steps with secrets are refused; the others see processes and shared memory of this host",
        "sudo apt-get install crun  # or let this user run: unshare --mount --pid --ipc",
    )


def check_emulation(facts: HostFacts) -> Iterator[Diagnosis]:
    """Say whether scripts and steps of images for other processors of the project run here."""
    for arch, runs in facts.emulated.items():
        if runs:
            yield ok("emulation", f"programs for {arch} run here by emulation")
            continue
        cost = "steps, scripts of packages and compiled wheels of its images are made elsewhere"
        mend = "sudo apt-get install qemu-user-static arch-test"
        yield note("emulation", f"programs for {arch} do not run here", cost, mend)


def check_network(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check whether podman's network backend has its plugins."""
    host = facts.containers
    has = {"cni": host.has_cni, "netavark": host.has_netavark}
    if host.backend not in has:
        return
    if has[host.backend]:
        yield ok("network", f"podman's networks: {host.backend}")
        return
    lacks = " and ".join(host.network_lacks)
    other = f"; {other_backend} is installed, but not chosen" if (other_backend := choose_backend(host)) else ""
    yield warning(
        "network",
        f"podman chose {host.backend}, and {lacks} {'is' if len(host.network_lacks) == 1 else 'are'} missing{other}",
        "`podman run` fails except with --network host or none",
        f"sudo apt-get install {' '.join(host.network_lacks)}",
    )


def check_tun(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check the device by which containers of an ordinary user reach a network."""
    if facts.system.uid != 0 and not facts.containers.has_tun:
        yield warning(
            "tun",
            f"{facts.system.user} may not open /dev/net/tun",
            "containers without root have no network: `podman run` fails, and so do steps with a network",
            "sudo modprobe tun && sudo chmod 0666 /dev/net/tun  # in a container: start it with --device /dev/net/tun",
        )


def check_user_network(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check the program by which containers of an ordinary user reach a network: pasta from podman 5 on."""
    podman = next((tool.version for tool in facts.tools if tool.name == "podman" and tool.path), "")
    program = "slirp4netns" if is_older(podman, "5") else "pasta"
    if podman and facts.system.uid != 0 and program not in facts.containers.user_networks:
        yield warning(
            "user-network",
            f"{program} is not installed, which podman {podman} starts for containers without root",
            "`podman run` fails except with --network host or none",
            f"sudo apt-get install {'passt' if program == 'pasta' else program}",
        )


def check_limits(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check whether podman may set its limits of open files and processes."""
    if limits := choose_limits(facts.containers):
        options = " ".join(f"--ulimit {limit}" for limit in limits)
        yield warning(
            "limits",
            f"limits cannot be raised above {', '.join(limits)}, and podman asks for more",
            "`podman run` fails with `error setting rlimit`",
            f"podman run {options} IMAGE  # or default_ulimits in containers.conf",
        )


def check_ranges(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check the subordinate ids of an ordinary user."""
    if facts.ranges is None:
        return
    user = facts.system.user
    if min(facts.ranges.uids, facts.ranges.gids) >= _RANGE:
        yield ok("subids", f"{user} has {facts.ranges.uids} subordinate uids, {facts.ranges.gids} gids")
        return
    first, last = facts.ranges.free, facts.ranges.free + _RANGE - 1
    yield error(
        "subids",
        f"{user} has {facts.ranges.uids} subordinate uids and {facts.ranges.gids} gids; {_RANGE} of each are needed",
        "builds without root fail",
        f"sudo usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user} && podman system migrate",
    )


def check_namespaces(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check user namespaces, for an ordinary user."""
    if facts.system.uid == 0:
        return
    spaces = facts.namespaces
    lacking = [name for name in ("buildah", "mmdebstrap") if name not in spaces.profiles]
    if not spaces.allowed:
        mend = "sudo sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000"
        yield error("namespaces", "the kernel refuses user namespaces to users", "builds without root fail", mend)
    elif spaces.apparmor_restricts and lacking:
        yield warning(
            "namespaces",
            f"AppArmor restricts user namespaces and has no profile for {' and '.join(lacking)}",
            "builds without root may fail with `Operation not permitted`",
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        )
    if not facts.runtime_folder:
        yield warning(
            "runtime-folder",
            "XDG_RUNTIME_DIR is not set, or not yours (a session by su or sudo has none)",
            "podman keeps its state in a temporary folder, and log-ins are lost",
            f"sudo loginctl enable-linger {facts.system.user}  # then log in again",
        )


def check_disks(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check the free space for images, the cache and temporary files."""
    for disk in facts.disks:
        yield _check_disk(disk)


def check_keyring(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check for Debian's archive keys, which Ubuntu does not install."""
    if not facts.debian_keyring:
        yield error(
            "keyring",
            "Debian's archive keys are missing",
            "packages of a Debian root cannot be verified, so none is made",
            "sudo apt-get install debian-archive-keyring",
        )


def check_logins(facts: HostFacts) -> Iterator[Diagnosis]:
    """List the registries that the user has logged in to, by name."""
    if facts.logins:
        yield ok("log-ins", f"logged in to {', '.join(facts.logins)}")
    else:
        cost = "pushes and private images need one"
        yield note("log-ins", "no registry log-ins", cost, "skopeo login REGISTRY")


def check_settings(facts: HostFacts) -> Iterator[Diagnosis]:
    """List the settings that affect downloads; names only, for values may hold passwords."""
    if facts.settings:
        yield note("settings", f"downloads and tools use {', '.join(facts.settings)}")


CHECKS: tuple[Callable[[HostFacts], Iterator[Diagnosis]], ...] = (
    check_tools,
    check_runtime,
    check_rootless_tools,
    check_storage,
    check_image_store,
    check_isolation,
    check_emulation,
    check_network,
    check_tun,
    check_user_network,
    check_limits,
    check_ranges,
    check_namespaces,
    check_disks,
    check_keyring,
    check_logins,
    check_gpus,
    check_mps,
    check_settings,
)


def check_host(facts: HostFacts) -> tuple[Diagnosis, ...]:
    """Return every finding, in the order of ``CHECKS``."""
    return tuple(finding for check in CHECKS for finding in check(facts))


def _check_disk(disk: DiskSpace) -> Diagnosis:
    name = f"disk-{disk.use.replace(' ', '-')}"
    room = f"{format_bytes(disk.free)} of {format_bytes(disk.total)} free for {disk.use} at {disk.path}"
    mend = {
        "images": "podman image prune",
        "cache": "export BUILDKIT_CACHE=/a/larger/disk",
    }.get(disk.use, "export TMPDIR=/a/larger/disk")
    if not disk.writable:
        return error(name, f"{disk.path} is not writable", f"no room for {disk.use}", mend)
    least, enough = _ROOM.get(disk.use, _TEMPORARY_ROOM)
    if disk.free < least:
        return error(name, room, "builds fail with `No space left on device`", mend)
    if disk.free < enough:
        return warning(name, room, "a large image may not fit", mend)
    if disk.in_memory:
        return warning(name, f"{room}, which is memory", "a large layer takes the memory that the build needs", mend)
    return ok(name, room)
