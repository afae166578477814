"""HAProxy 2.6 and later: its configuration, and commands for its socket (management guide, section 9.3).

All replicas that may ever run are in the configuration, those that do not run in maintenance. So scaling and shifting
users change states and numbers alone, and a restart restores them from the same value.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

from buildkit.rollout.proxied import ProxiedService, ProxyPool, ProxyServer
from buildkit.rollout.split import find_edges, salted_key

OLDEST = (2, 6)
_CONFIGURATION = "proc.configuration"  # its sum
COOKIE = "xoe-rollout"
VERSION_HEADER = "X-Served-Version"
_STOP_SECONDS = 30  # until connections are cut when the proxy ends or is configured anew
_RING = "answers"  # the latest answers, of which percentiles are taken; neither address nor path is kept
_LINE_BYTES, _RING_BYTES = 160, 4 << 20
_LOG_FORMAT = "%[date(0,ms)] %b %ST %Ta %ts"  # now in ms, version, status, ms from first to last byte, how it ended
COOKIE_ATTRIBUTES = f"Path=/; Max-Age={365 * 24 * 3600}; HttpOnly; SameSite=Lax"


def render_haproxy(service: ProxiedService) -> str:
    """Return the configuration. Raises ValueError if the shares of versions are more than there is."""
    text = "".join(f"{line}\n" for line in _lines(service))
    return f"global\n    set-var {_CONFIGURATION} int({crc32(text.encode())})\n{text}"


def find_configuration(text: str) -> tuple[str, str]:
    """Return the command that asks which configuration runs, and the end of its answer if it is this one."""
    number = text.partition("int(")[2].partition(")")[0]
    return f"get var {_CONFIGURATION}", f"value=<{number}>"


def _lines(service: ProxiedService) -> Iterator[str]:
    yield from _global(service)
    yield from _defaults(service)
    yield from _frontend(service)
    for pool in service.pools:
        yield from _backend(service, pool)
    if service.metrics:
        yield "frontend metrics"
        yield f"    bind {_bind(service.metrics)}"
        yield "    http-request use-service prometheus-exporter if { path /metrics }"
        yield "    http-request return status 404"


def _global(service: ProxiedService) -> Iterator[str]:
    yield f"ring {_RING}"
    yield "    format raw"
    yield f"    maxlen {_LINE_BYTES}"
    yield f"    size {_RING_BYTES}"
    yield "global"
    yield "    log stdout format raw daemon notice"
    yield "    maxconn 4096"
    yield f"    hard-stop-after {_STOP_SECONDS}s"
    yield f"    stats socket {service.socket} mode 600 level admin expose-fd listeners"
    for number, edge in _edges(service):
        yield f"    set-var {_variable(number)} int({edge})"


def _defaults(service: ProxiedService) -> Iterator[str]:
    limits = service.limits
    yield "defaults"
    yield "    mode http"
    yield "    log global"
    yield "    option dontlognull"
    yield "    option forwardfor"
    yield "    option http-server-close"  # a connection that a replica closes meanwhile would lose a request
    yield "    option abortonclose"
    yield "    option idle-close-on-response"  # connections of clients outlive a reload until their next answer
    yield "    option redispatch 1"
    yield "    retries 5"
    yield "    retry-on conn-failure empty-response"
    yield "    timeout connect 5s"
    yield "    timeout http-request 10s"
    yield "    timeout http-keep-alive 30s"
    yield f"    timeout client {limits.answer_seconds}s"
    yield f"    timeout server {limits.answer_seconds}s"
    yield f"    timeout queue {limits.queue_seconds}s"
    yield "    timeout tunnel 1h"
    yield "    timeout check 5s"
    yield '    http-error status 503 content-type text/plain string "no replica is free\\n" hdr Retry-After 1'


def _frontend(service: ProxiedService) -> Iterator[str]:
    yield "frontend service"
    yield f"    bind {_bind(service.listen)}"
    yield f"    log ring@{_RING} format raw daemon"
    yield f'    log-format "{_LOG_FORMAT}"'
    if len(service.pools) > 1:
        yield from _user(service)
        yield "    http-request set-var(txn.bucket) var(txn.key),sdbm(1),mod(1000)"
        for number, (pool, _) in enumerate(find_edges(service.pools), 1):
            chosen = f"{{ var(txn.bucket),sub({_variable(number)}) lt 0 }}"
            yield f"    use_backend {pool.name} if {chosen} {{ nbsrv({pool.name}) gt 0 }}"
    yield f"    default_backend {service.pools[0].name}"


def _user(service: ProxiedService) -> Iterator[str]:
    """Yield the rules that find the user; one that does not say who it is is its address."""
    kind, _, name = service.by.partition(":")
    if kind == "header":
        yield f"    http-request set-var(txn.user) req.hdr({name})"
    elif kind == "cookie":
        yield f"    http-request set-var(txn.user) req.cook({name or COOKIE})"
    if service.by == "cookie":
        absent = "!{ var(txn.user) -m found }"
        yield f"    http-request set-var(txn.new) uuid() if {absent}"
        yield f"    http-request set-var(txn.user) var(txn.new) if {absent}"
        value = f'"{COOKIE}=%[var(txn.new)]; {COOKIE_ATTRIBUTES}"'
        yield f"    http-response add-header Set-Cookie {value} if {{ var(txn.new) -m found }}"
    yield "    http-request set-var(txn.user) src unless { var(txn.user) -m len gt 0 }"
    yield f"    http-request set-var(txn.key) str({salted_key(service.salt)}),concat(,txn.user)"


def _backend(service: ProxiedService, pool: ProxyPool) -> Iterator[str]:
    yield f"backend {pool.name}"
    yield "    balance leastconn"
    yield "    http-request disable-l7-retry unless METH_GET"  # what changes something is never sent twice
    yield f"    http-response set-header {VERSION_HEADER} {pool.name}"
    if service.probe:
        yield "    option httpchk"
        yield f"    http-check send meth GET uri {service.probe} ver HTTP/1.1 hdr Host {service.name}"
    for server in pool.servers:
        yield f"    server {server.name} {server.address}:{server.port} {_server_options(service, server)}"


def _server_options(service: ProxiedService, server: ProxyServer) -> str:
    # checks that are impatient would take the only replica away while it is busy
    words = ["check inter 1s fall 5 rise 1"]
    if service.limits.at_once:
        words.append(f"maxconn {service.limits.at_once}")
    if not server.enabled:
        words.append("disabled")
    return " ".join(words)


def _bind(listen: str) -> str:
    return listen if ":" in listen else f":{listen}"


def _variable(number: int) -> str:
    return f"proc.edge_{number}"


def _edges(service: ProxiedService) -> Iterator[tuple[int, int]]:
    for number, (_, edge) in enumerate(find_edges(service.pools), 1):
        yield number, edge


def split_commands(service: ProxiedService) -> tuple[str, ...]:
    """Return the commands that give each pool its share while the proxy runs."""
    return tuple(f"experimental-mode on; set var {_variable(number)} int({edge})" for number, edge in _edges(service))
