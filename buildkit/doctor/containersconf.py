"""Which containers.conf(5) a host needs before podman can run containers on it. Pure.

Nothing here touches a user's configuration: the text is advice, and tests write it to a folder of their own and name
it in ``CONTAINERS_CONF``.
"""

from __future__ import annotations

from buildkit.doctor.facts import ContainerHost

# What podman asks for, for a container started by root, where no file says otherwise: open files and processes.
PODMANS_LIMIT = 1048576


def choose_runtime(host: ContainerHost) -> str:
    """The OCI runtime to force; empty where the one that podman prefers, crun, works, or there is no choice."""
    refused = host.cgroups in ("hybrid", "v1")  # "cgroups in hybrid mode not supported"
    return "runc" if refused and {"crun", "runc"} <= set(host.runtimes) else ""


def choose_limits(host: ContainerHost) -> tuple[str, ...]:
    """Limits to set, as ``--ulimit`` takes them; empty where podman's own can be set."""
    if not host.rootful or host.may_raise:
        return ()
    limits = (("nofile", host.nofile), ("nproc", host.nproc))
    return tuple(f"{name}={hard}:{hard}" for name, hard in limits if 0 <= hard < PODMANS_LIMIT)


def choose_backend(host: ContainerHost) -> str:
    """The network backend to force; empty where podman's own choice has its plugins."""
    if host.backend == "cni" and not host.has_cni and host.has_netavark:
        return "netavark"
    if host.backend == "netavark" and not host.has_netavark and host.has_cni:
        return "cni"
    return ""


def render_containers_conf(host: ContainerHost) -> str:
    """The file's text; empty where the host needs none."""
    text = ""
    if limits := choose_limits(host):
        quoted = ", ".join(f'"{limit}"' for limit in limits)
        text += f"[containers]\ndefault_ulimits = [{quoted}]\n"
    if runtime := choose_runtime(host):
        text += f'[engine]\nruntime = "{runtime}"\n'
    if backend := choose_backend(host):
        text += f'[network]\nnetwork_backend = "{backend}"\n'
    return text
