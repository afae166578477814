"""nginx: a configuration that splits users over versions, and sends a shadow a copy of each request.

nginx hashes with MurmurHash2 (ngx_http_split_clients_module), so its users differ from HAProxy's; they stay the same
while shares change, too. It is reloaded for each change, and drops idle connections then. Every replica that is
``enabled`` is an upstream server; health is what requests tell (``max_fails``).
"""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.rollout.haproxy import COOKIE, COOKIE_ATTRIBUTES, VERSION_HEADER
from buildkit.rollout.proxied import ProxiedService, ProxyPool
from buildkit.rollout.split import find_edges, salted_key


def render_nginx(service: ProxiedService, *, shadow: ProxyPool | None = None, folder: str = "/tmp") -> str:  # noqa: S108
    """Return the configuration; ``folder`` may be written. Raises ValueError for shares that are too large."""
    return "".join(f"{line}\n" for line in _lines(service, shadow, folder))


def _lines(service: ProxiedService, shadow: ProxyPool | None, folder: str) -> Iterator[str]:
    limits = service.limits
    yield "worker_processes auto;"
    yield "daemon off;"
    yield f"pid {folder}/nginx.pid;"
    yield "error_log stderr warn;"
    yield "events { worker_connections 4096; }"
    yield "http {"
    yield "    access_log off;"
    yield "    server_tokens off;"
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        yield f"    {kind}_temp_path {folder}/{kind};"
    yield "    client_max_body_size 0;"
    yield "    proxy_http_version 1.1;"
    yield f"    proxy_read_timeout {limits.answer_seconds}s;"
    yield "    proxy_next_upstream error;"  # no connection, or no answer: what changes something is not sent twice
    yield from _split(service)
    for pool in (*service.pools, *([shadow] if shadow else ())):
        yield from _upstream(service, pool)
    yield from _server(service, shadow)
    yield "}"


def _split(service: ProxiedService) -> Iterator[str]:
    yield from _user(service)
    shares = [(pool, pool.share) for pool, _ in find_edges(service.pools) if pool.share]
    yield f'    split_clients "{salted_key(service.salt)}$split_user" $split_version {{'
    for pool, share in shares:
        yield f"        {share / 10:g}% {pool.name};"
    yield f"        * {service.pools[0].name};"
    yield "    }"


def _user(service: ProxiedService) -> Iterator[str]:
    """Yield who the user is; one that does not say so is its address, or the cookie that it is about to get."""
    kind, _, name = service.by.partition(":")
    named = {"header": f"$http_{name.lower().replace('-', '_')}", "cookie": "$split_cookie"}.get(kind, "$remote_addr")
    if kind == "cookie":  # not by a variable of nginx: its name has no hyphen
        yield f'    map $http_cookie $split_cookie {{ "~(?:^|; *){name or COOKIE}=(?<cookie>[^;]+)" $cookie; }}'
    other = "$request_id" if service.by == "cookie" else "$remote_addr"
    yield f'    map {named} $split_user {{ "" {other}; default {named}; }}'
    if service.by == "cookie":
        yield f'    map $split_cookie $split_new {{ "" "{COOKIE}=$request_id; {COOKIE_ATTRIBUTES}"; }}'


def _upstream(service: ProxiedService, pool: ProxyPool) -> Iterator[str]:
    limit = f" max_conns={service.limits.at_once}" if service.limits.at_once else ""
    yield f"    upstream {pool.name} {{"
    yield f"        zone {pool.name} 64k;"
    yield "        least_conn;"
    for server in pool.servers:
        down = "" if server.enabled else " down"
        yield f"        server {server.address}:{server.port} max_fails=3 fail_timeout=5s{limit}{down};"
    yield "    }"


def _server(service: ProxiedService, shadow: ProxyPool | None) -> Iterator[str]:
    yield "    server {"
    yield f"        listen {service.listen};"
    yield "        location / {"
    yield from (f"            {line}" for line in _forwarded())
    if shadow:
        yield "            mirror /_shadow;"
        yield "            mirror_request_body on;"
    yield f"            add_header {VERSION_HEADER} $split_version always;"
    if service.by == "cookie":
        yield "            add_header Set-Cookie $split_new;"  # an empty one is none
    yield "            proxy_pass http://$split_version;"
    yield "        }"
    if shadow:
        yield "        location = /_shadow {"
        yield "            internal;"
        yield from (f"            {line}" for line in _forwarded())
        yield '            proxy_set_header X-Shadow "1";'
        yield "            proxy_read_timeout 10s;"
        yield f"            proxy_pass http://{shadow.name}$request_uri;"
        yield "        }"
    yield "    }"


def _forwarded() -> tuple[str, ...]:
    return (
        "proxy_set_header Host $http_host;",
        'proxy_set_header Connection "";',
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    )
