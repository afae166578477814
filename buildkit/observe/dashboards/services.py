"""Dashboards of services and their models, and of builds. Pure.

Metrics are those of the reference service, of HAProxy's and Triton's own exporters, and of xoe-monitor.
"""

from __future__ import annotations

from buildkit.observe.dashboards.dashboard import Dashboard, LabelChoice, Panel, PanelQuery, PanelRow, Unit

_CHOSEN = 'service=~"$service"'
_VERSION = "{{model}} {{version}}"


def _panel(title: str, about: str, unit: Unit, *queries: tuple[str, str]) -> Panel:
    """Return a chart of queries with their legends; ``@`` stands for the choice of services."""
    made = tuple(PanelQuery(text=text.replace("@", _CHOSEN), legend=legend) for text, legend in queries)
    return Panel(title=title, about=about, unit=unit, queries=made)


def _rate(metric: str, labels: str, matchers: str = "@") -> str:
    return f"sum by ({labels}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def _ratio(metric: str, by: str, scale: str = "") -> str:
    """Return the ratio of two of Triton's counters."""
    grown = (f"sum by (model, version) (rate({name}[$__rate_interval]))" for name in (metric, by))
    return f"{scale} / ".join(grown)


def _quantile(share: float, metric: str, labels: str) -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', f'{labels}, le')})"


_REQUESTS = PanelRow(
    title="Requests",
    panels=(
        _panel(
            "Requests",
            "Answers a second, by status.",
            Unit.REQUESTS_PER_SECOND,
            (_rate("speech_http_requests_total", "service, status"), "{{service}} {{status}}"),
        ),
        _panel(
            "Errors",
            "Share of requests that the service failed to answer (5xx but 503).",
            Unit.SHARE,
            (
                _rate("speech_http_requests_total", "service", '@, status=~"5..", status!="503"')
                + " / "
                + _rate("speech_http_requests_total", "service"),
                "{{service}}",
            ),
        ),
        _panel(
            "Latency",
            "From headers to answer: what half, 95 % and 99 % of requests stay below.",
            Unit.SECONDS,
            *(
                (_quantile(share, "speech_http_request_seconds", "service"), f"{{{{service}}}} {share:.0%}")
                for share in (0.5, 0.95, 0.99)
            ),
        ),
        _panel(
            "In flight",
            "Requests that are being answered.",
            Unit.COUNT,
            ("sum by (service) (speech_http_requests_in_flight{@})", "{{service}}"),
        ),
        _panel(
            "Refused",
            "Requests refused a second, by problem.",
            Unit.REQUESTS_PER_SECOND,
            (_rate("speech_problems_total", "service, code"), "{{service}} {{code}}"),
        ),
        _panel(
            "Audio",
            "Seconds of audio analysed in a second.",
            Unit.COUNT,
            (_rate("speech_audio_seconds_total", "service"), "{{service}}"),
        ),
    ),
)

_MODELS = PanelRow(
    title="Models",
    panels=(
        _panel(
            "Requests by version",
            "Answers of each version of a model, by outcome.",
            Unit.REQUESTS_PER_SECOND,
            (_rate("model_requests_total", "model, version, outcome"), f"{_VERSION} {{{{outcome}}}}"),
        ),
        _panel(
            "Latency by version",
            "What 95 % of requests to a version stay below.",
            Unit.SECONDS,
            (_quantile(0.95, "model_latency_seconds", "model, version"), _VERSION),
        ),
        _panel(
            "Confidence by version",
            "The median of what a version says of its own answers.",
            Unit.SHARE,
            (_quantile(0.5, "model_confidence", "model, version"), _VERSION),
        ),
    ),
)

_DRIFT = PanelRow(
    title="Drift",
    panels=(
        _panel(
            "PSI",
            "Population stability index against the profile made at build time; above 0.2, much has changed.",
            Unit.COUNT,
            ("max by (model, version, signal) (model_drift_psi{@})", f"{_VERSION} {{{{signal}}}}"),
        ),
        _panel(
            "Kolmogorov-Smirnov",
            "The largest distance between the two cumulative distributions.",
            Unit.SHARE,
            ("max by (model, version, signal) (model_drift_ks{@})", f"{_VERSION} {{{{signal}}}}"),
        ),
    ),
)

_PROXY = PanelRow(
    title="Proxy (HAProxy)",
    panels=(
        _panel(
            "Requests by version",
            "Requests a second of each backend: what the split really is.",
            Unit.REQUESTS_PER_SECOND,
            ("sum by (proxy) (rate(haproxy_backend_http_requests_total[$__rate_interval]))", "{{proxy}}"),
        ),
        _panel(
            "Errors by version",
            "Answers with 5xx a second.",
            Unit.REQUESTS_PER_SECOND,
            (
                'sum by (proxy) (rate(haproxy_backend_http_responses_total{code="5xx"}[$__rate_interval]))',
                "{{proxy}}",
            ),
        ),
        _panel(
            "Queued",
            "Requests that wait for a replica.",
            Unit.COUNT,
            ("sum by (proxy) (haproxy_backend_current_queue)", "{{proxy}}"),
        ),
        _panel(
            "Replicas",
            "Replicas that the proxy's own check lets in.",
            Unit.COUNT,
            ('sum by (proxy) (haproxy_server_status{state="UP"})', "{{proxy}}"),
        ),
    ),
)

_TRITON = PanelRow(
    title="Triton",
    panels=(
        _panel(
            "Inferences",
            "Requests a second, by model and version.",
            Unit.REQUESTS_PER_SECOND,
            ("sum by (model, version) (rate(nv_inference_request_success[$__rate_interval]))", _VERSION),
            (
                "sum by (model, version) (rate(nv_inference_request_failure[$__rate_interval]))",
                f"{_VERSION} failed",
            ),
        ),
        _panel(
            "Time",
            "Mean seconds of a request, and those of them in the queue.",
            Unit.SECONDS,
            (_ratio("nv_inference_request_duration_us", "nv_inference_request_success", " / 1e6"), _VERSION),
            (
                _ratio("nv_inference_queue_duration_us", "nv_inference_request_success", " / 1e6"),
                f"{_VERSION} in the queue",
            ),
        ),
        _panel(
            "Batches",
            "Inferences for each run of a model: how well batching works.",
            Unit.COUNT,
            (_ratio("nv_inference_count", "nv_inference_exec_count"), _VERSION),
        ),
    ),
)

SERVICES = Dashboard(
    name="xoe-services",
    title="Services and models",
    about="What services answer, how fast, and whether models and their inputs are still what they were.",
    choices=(LabelChoice(name="service", metric="speech_ready", label="service"),),
    rows=(_REQUESTS, _MODELS, _DRIFT, _PROXY, _TRITON),
)

BUILDS = Dashboard(
    name="xoe-builds",
    title="Builds and findings",
    about="What builds take, what the cache saves, and what checks of running containers found.",
    rows=(
        PanelRow(
            title="Builds",
            panels=(
                _panel(
                    "Time by phase",
                    "Seconds of a stage's last build that did something, by phase.",
                    Unit.SECONDS,
                    ("sum by (stage, phase) (xoe_build_duration_seconds)", "{{stage}} {{phase}}"),
                ),
                _panel(
                    "Layers",
                    "Layers of a stage's last build that did something, by where they came from.",
                    Unit.COUNT,
                    ("sum by (stage, outcome) (xoe_build_layers)", "{{stage}} {{outcome}}"),
                ),
            ),
        ),
        PanelRow(
            title="Running containers",
            panels=(
                _panel(
                    "Findings",
                    "Findings in running containers, by severity.",
                    Unit.COUNT,
                    ("sum by (severity, container) (xoe_findings)", "{{container}} {{severity}}"),
                ),
            ),
        ),
        PanelRow(
            title="The monitor itself",
            panels=(
                _panel(
                    "Time of a look",
                    "Seconds that reading all figures took.",
                    Unit.SECONDS,
                    ("xoe_monitor_scrape_duration_seconds", "{{instance}}"),
                ),
                _panel(
                    "Age",
                    "Seconds since the monitor's last look: more than 30, and its figures are gone.",
                    Unit.SECONDS,
                    ("xoe_monitor_state_age_seconds", "{{instance}}"),
                ),
                _panel(
                    "Failed looks",
                    "Sources that could not be read, a second.",
                    Unit.PER_SECOND,
                    ("sum by (source) (rate(xoe_monitor_errors_total[$__rate_interval]))", "{{source}}"),
                ),
            ),
        ),
    ),
)
