"""Render the containers.conf(5) that a host needs before podman can run containers on it. Pure.

A user's configuration is never changed: the text is advice, and tests write it to a temporary folder and name it in
``CONTAINERS_CONF``.
"""

from __future__ import annotations

from buildkit.doctor.facts import ContainerHost

# podman's default limit of open files and of processes, for containers that root starts.
PODMAN_DEFAULT_LIMIT = 1048576


def choose_runtime(host: ContainerHost) -> str:
    """Return the OCI runtime to force; empty if podman's preferred one, crun, works, or there is no alternative."""
    refused = host.cgroups in ("hybrid", "v1")  # "cgroups in hybrid mode not supported"
    return "runc" if refused and {"crun", "runc"} <= set(host.runtimes) else ""


def choose_limits(host: ContainerHost) -> tuple[str, ...]:
    """Return limits to set, as ``--ulimit`` takes them; empty if podman can set its defaults."""
    if not host.rootful or host.may_raise:
        return ()
    limits = (("nofile", host.nofile), ("nproc", host.nproc))
    return tuple(f"{name}={hard}:{hard}" for name, hard in limits if 0 <= hard < PODMAN_DEFAULT_LIMIT)


def choose_backend(host: ContainerHost) -> str:
    """Return the network backend to force; empty if podman's choice has its plugins."""
    if host.backend == "cni" and not host.has_cni and host.has_netavark:
        return "netavark"
    if host.backend == "netavark" and not host.has_netavark and host.has_cni:
        return "cni"
    return ""


def render_containers_conf(host: ContainerHost) -> str:
    """Return the file's text; empty if the host needs none."""
    text = ""
    if limits := choose_limits(host):
        quoted = ", ".join(f'"{limit}"' for limit in limits)
        text += f"[containers]\ndefault_ulimits = [{quoted}]\n"
    if runtime := choose_runtime(host):
        text += f'[engine]\nruntime = "{runtime}"\n'
    if backend := choose_backend(host):
        text += f'[network]\nnetwork_backend = "{backend}"\n'
    return text
