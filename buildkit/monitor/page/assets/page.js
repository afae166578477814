// What each event changes. Events are kept, and drawn once for each picture of the screen.

const $ = (id) => document.getElementById(id);
const SERIOUS = ["oom", "health", "gone"];
const latest = {};
const changed = new Set();
const pinned = new Set();
const histories = Object.fromEntries(
  ["cpu", "memory", "gpu", "gpuMemory", "latency", "requests", "drift"].map((name) => [name, new Past()]));
const sum = (items, figure) => items.reduce((total, item) => total + (figure(item) ?? 0), 0);
const most = (items, figure) => items.reduce((top, item) => Math.max(top, figure(item) ?? -Infinity), -Infinity);

// ---- containers

const hasWord = (one, word) => (one.attention.includes(word) ? (SERIOUS.includes(word) ? "bad" : "warn") : "");
const ofLimit = (kind, used, limit) => (limit ? `${format(kind, used)} of ${format(kind, limit)}` : format(kind, used));
const shareOf = (used, limit) => (limit && used !== null ? used / limit : null);

function stalled(one) {
  const parts = [["CPU", one.cpu], ["memory", one.memory], ["disk", one.io]].filter(([, part]) => part.pressure?.some > 0.005);
  return parts.map(([name, part]) => `${name} ${format("share", part.pressure.some)}`).join(", ");
}

function image(one) {
  const text = { true: "current", false: "differs" }[one.image.expected] ?? "";
  return { text: text || "unknown", small: `${one.image.name} ${one.image.id.slice(0, 12)}`, tone: one.image.expected ? "good" : hasWord(one, "image") };
}

const containerColumns = [
  { title: "Name", cell: (one) => ({ text: one.name, small: one.state === "gone" ? "gone" : "" }), order: (one) => one.name, falling: false },
  { title: "CPU", order: (one) => one.cpu.used, cell: (one) => ({
    text: ofLimit("cpus", one.cpu.used, one.cpu.limit), share: shareOf(one.cpu.used, one.cpu.limit) }) },
  { title: "Throttled", order: (one) => one.cpu.throttled, cell: (one) => ({
    text: one.cpu.limit ? format("share", one.cpu.throttled) : "", tone: hasWord(one, "throttled") }) },
  { title: "Memory", order: (one) => one.memory.working_set, cell: (one) => ({
    text: ofLimit("bytes", one.memory.working_set, one.memory.limit),
    share: shareOf(one.memory.working_set, one.memory.limit), tone: hasWord(one, "memory") }) },
  { title: "OOM kills", order: (one) => one.memory.oom_kills, cell: (one) => ({ text: format("count", one.memory.oom_kills), tone: hasWord(one, "oom") }) },
  { title: "Restarts", order: (one) => one.restarts, cell: (one) => format("count", one.restarts) },
  { title: "Health", order: (one) => one.health ?? "", cell: (one) => ({
    text: one.state === "gone" ? "gone" : one.health ?? "no check",
    tone: hasWord(one, "health") || hasWord(one, "gone") || (one.health === "healthy" ? "good" : "") }) },
  { title: "Image", isText: true, order: (one) => String(one.image.expected), cell: image },
  { title: "Stalled", isText: true, order: (one) => one.memory.pressure?.some, cell: stalled },
  { title: "Disk", order: (one) => (one.io.read_rate ?? 0) + (one.io.write_rate ?? 0), cell: (one) => ({
    text: `${format("rate", one.io.read_rate)} read`, small: `${format("rate", one.io.write_rate)} written` }) },
  { title: "Network", order: (one) => (one.network.receive_rate ?? 0) + (one.network.send_rate ?? 0), cell: (one) => ({
    text: `${format("rate", one.network.receive_rate)} in`, small: `${format("rate", one.network.send_rate)} out` }) },
  { title: "GPU", order: (one) => sum(one.gpus, (gpu) => gpu.memory), cell: (one) =>
    ({ text: one.gpus.map((gpu) => `${gpu.index}: ${format("bytes", gpu.memory)}`).join(", "),
      small: one.gpus.map((gpu) => format("share", gpu.utilisation)).join(", ") }) },
];

function showContainers({ containers, total, attention, podman_problem: problem }) {
  const find = $("find").value.trim().toLowerCase();
  const matching = containers.filter((one) => `${one.name} ${one.image.name}`.toLowerCase().includes(find));
  for (const one of matching) {
    one.key = one.id;
    one.tone = one.attention.some((word) => SERIOUS.includes(word)) ? "bad" : one.attention.length ? "warn" : "";
  }
  tables.containers.show(matching);
  const left = total - containers.length;
  const note = problem ? plain(`podman does not answer: ${problem}`) : !total ? "No container runs." : !matching.length ? "No container has that in its name or image."
    : left ? `${left} of ${total} containers are left out: those that do least and need no attention.` : "";
  setText($("containers-note"), note);
  $("containers-note").hidden = !note;
  document.title = attention ? `(${attention}) xoe-monitor` : "xoe-monitor";
}

function pick(key, button) {
  const name = latest.snapshot.containers.find((one) => one.id === key)?.name;
  if (!pinned.delete(name)) pinned.add(name);
  button.setAttribute("aria-pressed", String(pinned.has(name)));
  charts.cpu.draw();
  charts.memory.draw();
}

// ---- GPUs

const gpuColumns = [
  { title: "GPU", cell: (gpu) => ({ text: `${gpu.index} ${gpu.name ?? ""}`, small: gpu.uuid }) },
  { title: "Busy", cell: (gpu) => ({ text: format("share", gpu.utilisation), share: gpu.utilisation ?? null }) },
  { title: "Memory", cell: (gpu) => ({ text: ofLimit("bytes", gpu.memory, gpu.total), share: shareOf(gpu.memory ?? null, gpu.total) }) },
  { title: "Temperature", cell: (gpu) => ({ text: format("celsius", gpu.temperature), tone: gpu.temperature >= 85 ? "warn" : "" }) },
  { title: "Power", cell: (gpu) => format("watts", gpu.power) },
  { title: "ECC errors", cell: (gpu) => ({
    text: format("count", gpu.uncorrected), small: gpu.corrected ? `${gpu.corrected} more, corrected` : "",
    tone: gpu.uncorrected ? "bad" : "" }) },
  { title: "XID", cell: (gpu) => ({ text: format("count", gpu.xid), tone: gpu.xid ? "bad" : "" }) },
  { title: "Containers", isText: true, cell: (gpu) => latest.snapshot.containers
    .filter((one) => one.gpus.some((share) => share.uuid === gpu.uuid)).map((one) => one.name).join(", ") },
];

function showGpus({ gpus = [], gpu_problems: problems }) {
  $("gpus").hidden = !gpus.length && !problems.length;
  $("gpu-problems").replaceChildren(...problems.map((problem) => element("li", {}, plain(problem))));
  tables.gpus.show(gpus.map((gpu) => ({ ...gpu, key: gpu.uuid, tone: gpu.problem || gpu.xid || gpu.uncorrected ? "bad" : "" })));
}

// ---- services and models

const serviceColumns = [
  { title: "Service", cell: (one) => ({ text: one.name, small: one.problem ?? (one.left_out && `left out: ${one.left_out}`) }) },
  { title: "Ready", cell: (one) => (one.problem ? { text: "no answer", tone: "bad" }
    : one.ready === null ? { text: "" } : { text: one.ready ? "ready" : "not ready", tone: one.ready ? "good" : "bad" }) },
  { title: "Requests", cell: (one) => format("perSecond", one.requests) },
  { title: "Errors", cell: (one) => ({ text: format("share", one.errors), tone: one.errors > 0.01 ? "bad" : "" }) },
  { title: "Refused", cell: (one) => ({ text: format("share", one.refused), tone: one.refused > 0.01 ? "warn" : "" }) },
  { title: "In flight", cell: (one) => format("count", one.in_flight) },
  { title: "Median", cell: (one) => format("seconds", one.p50) },
  { title: "95 %", cell: (one) => format("seconds", one.p95) },
  { title: "99 %", cell: (one) => format("seconds", one.p99) },
];

function drift(model) {
  const known = model.drift.filter((one) => one.psi !== null);
  const waiting = model.drift.filter((one) => one.psi === null && one.samples_needed);
  const text = known.map((one) => `${one.signal} ${format("number", one.psi)}`).join(", ");
  const small = waiting.map((one) => `${one.signal}: ${one.samples ?? 0} of ${one.samples_needed} samples`).join(", ");
  const worst = most(known, (one) => one.psi);
  return { text: text || (small ? "too few samples" : ""), small, tone: worst > 0.2 ? "bad" : worst > 0.1 ? "warn" : "" };
}

const modelColumns = [
  { title: "Model", cell: (model) => ({ text: model.model, small: model.service }) },
  { title: "Version", isText: true, cell: (model) => model.version },
  { title: "Requests", cell: (model) => format("perSecond", model.requests) },
  { title: "Errors", cell: (model) => ({ text: format("share", model.errors), tone: model.errors > 0.01 ? "bad" : "" }) },
  { title: "Median", cell: (model) => (model.p50 === null && model.mean !== null
    ? { text: format("seconds", model.mean), small: "mean" } : format("seconds", model.p50)) },
  { title: "95 %", cell: (model) => format("seconds", model.p95) },
  { title: "Confidence", cell: (model) => format("share", model.confidence) },
  { title: "Drift (PSI)", isText: true, cell: drift },
];

function showServices({ services }) {
  $("services").hidden = !services.length;
  tables.services.show(services.map((one) => ({ ...one, key: one.name, tone: one.problem || one.ready === false ? "bad" : "" })));
  const models = services.flatMap((one) => one.models.map((model) =>
    ({ ...model, service: one.name, key: JSON.stringify([one.name, model.model, model.version]) })));
  $("models-title").hidden = $("models-table").hidden = !models.length;
  tables.models.show(models);
}

// ---- builds and findings

const tones = new Map();
const toneOf = (phase) => `--s${(tones.get(phase) ?? 7) % 8}`;
const buildColumns = [
  { title: "Started", cell: (build) => day(build.started) },
  { title: "Stage", isText: true, cell: (build) => build.stage },
  { title: "Took", cell: (build) => format("seconds", build.seconds) },
  { title: "Phases", cell: (build) => ({ text: "", parts: phasesOf(build) }) },
  { title: "Layers", cell: (build) => ({
    text: `${build.built} built`, small: build.reused === undefined ? "" : `${build.reused} reused` }) },
  { title: "Fetched", cell: (build) => (build.bytes.fetched ? format("bytes", build.bytes.fetched) : "") },
  { title: "Pushed", cell: (build) => (build.bytes.pushed ? format("bytes", build.bytes.pushed) : "") },
];

function phasesOf(build) {
  const spent = Object.entries(build.timings).sort((one, other) => other[1].seconds - one[1].seconds);
  const whole = sum(spent, ([, cost]) => cost.seconds) || 1;
  const longest = most(latest.builds.builds, (one) => one.seconds) || 1;
  const width = Math.max(0.04, build.seconds / longest);
  return spent.map(([name, { seconds }]) => ({ share: (seconds / whole) * width, tone: toneOf(name), label: `${name} ${format("seconds", seconds)}` }));
}

function showBuilds({ builds, phases, cache }) {
  $("builds").hidden = false;
  phases.forEach(({ name }, index) => { if (!tones.has(name)) tones.set(name, Math.min(index, 7)); });
  const built = sum(builds, (build) => build.built);
  const layers = built + sum(builds, (build) => build.reused);
  const said = [
    builds.length ? `${builds.length} builds` : "No build of this checkout is on record.",
    layers ? `${format("share", (layers - built) / layers)} of their layers came from the cache` : "",
    cache ? `the cache holds ${format("bytes", cache.size)} in ${cache.blobs} blobs` : "",
  ].filter(Boolean).join(", ");
  setText($("builds-note"), said);
  $("phases").replaceChildren(...phases.slice(0, 8).map(({ name, seconds }) => {
    const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--tone", `var(${toneOf(name)})`);
    return element("li", {}, swatch, element("bdi", {}, plain(name)), element("b", {}, format("seconds", seconds)));
  }));
  tables.builds.show([...builds].reverse().map((build) => ({ ...build, key: `${build.stage} ${build.started}` })));
}

const findingColumns = [
  { title: "Rule", isText: true, cell: (finding) => finding.rule },
  { title: "Severity", cell: (finding) => ({ text: finding.severity, tone: /high|critical|error/.test(finding.severity) ? "bad" : "warn" }) },
  { title: "Container", isText: true, cell: (finding) => finding.container },
  { title: "Finding", isText: true, cell: (finding) => ({ text: finding.what, small: finding.path ?? "" }) },
];

function showFindings({ findings, total }) {
  $("findings").hidden = !total;
  setText($("findings-note"), total > findings.length ? `${findings.length} of ${total} findings.` : "");
  tables.findings.show(findings.map((finding) => ({ ...finding, key: JSON.stringify(finding) })));
}

// ---- overview

function showTiles() {
  const { containers = [], total = 0, attention = 0, gpus = [] } = latest.snapshot ?? {};
  const services = latest.services?.services ?? [];
  const kills = sum(containers, (one) => one.memory.oom_kills);
  const tiles = [
    ["Containers", String(total), ""],
    ["Need attention", String(attention), attention ? "bad" : "good"],
    ["CPUs in use", format("cpus", sum(containers, (one) => one.cpu.used)), ""],
    ["Memory", format("bytes", sum(containers, (one) => one.memory.working_set)), ""],
    ["OOM kills", String(kills), kills ? "bad" : ""],
    ...(gpus.length ? [["GPUs busy", format("share", sum(gpus, (gpu) => gpu.utilisation) / gpus.length), ""]] : []),
    ...(services.length ? [
      ["Requests", format("perSecond", sum(services, (one) => one.requests)), ""],
      ["Slowest 95 %", format("seconds", most(services, (one) => one.p95)), ""]] : []),
  ];
  const list = $("tiles");
  while (list.children.length > tiles.length) list.lastChild.remove();
  tiles.forEach(([name, value, tone], index) => {
    const tile = list.children[index] ?? list.appendChild(element("div", {}, element("dt"), element("dd")));
    setText(tile.firstChild, name);
    setText(tile.lastChild, value);
    tile.lastChild.className = tone;
  });
}

// ---- the whole

const tables = {
  containers: new Table($("containers-table"), "Containers", containerColumns, { onPick: pick, sort: {} }),
  gpus: new Table($("gpus-table"), "GPUs", gpuColumns),
  services: new Table($("services-table"), "Services", serviceColumns),
  models: new Table($("models-table"), "Models", modelColumns),
  findings: new Table($("findings-table"), "Findings", findingColumns),
  builds: new Table($("builds-table"), "Builds", buildColumns),
};
const charts = {
  cpu: new Chart($("container-charts"), "CPUs by container", "cpus", histories.cpu, { pinned }),
  memory: new Chart($("container-charts"), "Memory by container", "bytes", histories.memory, { pinned }),
  gpu: new Chart($("gpu-charts"), "GPUs busy", "share", histories.gpu, { max: () => 1 }),
  gpuMemory: new Chart($("gpu-charts"), "GPU memory", "bytes", histories.gpuMemory),
  latency: new Chart($("service-charts"), "Latency, 95 %", "seconds", histories.latency),
  requests: new Chart($("service-charts"), "Requests a second", "count", histories.requests),
  drift: new Chart($("service-charts"), "Drift (PSI; 0.2 is much)", "number", histories.drift, { max: () => 0.25 }),
};
const chartsOf = { snapshot: ["cpu", "memory", "gpu", "gpuMemory"], services: ["latency", "requests", "drift"] };

function remember(kind, data) {
  if (kind === "snapshot") {
    const { time, containers, gpus = [] } = data;
    histories.cpu.push(time, containers.map((one) => [one.name, one.cpu.used]));
    histories.memory.push(time, containers.map((one) => [one.name, one.memory.working_set]));
    histories.gpu.push(time, gpus.map((gpu) => [`GPU ${gpu.index}`, gpu.utilisation]));
    histories.gpuMemory.push(time, gpus.map((gpu) => [`GPU ${gpu.index}`, gpu.memory]));
  } else if (kind === "services") {
    const { time, services } = data;
    histories.latency.push(time, services.map((one) => [one.name, one.p95]));
    histories.requests.push(time, services.map((one) => [one.name, one.requests]));
    histories.drift.push(time, services.flatMap((one) => one.models.flatMap((model) =>
      model.drift.map((signal) => [`${model.model} ${model.version} ${signal.signal}`, signal.psi]))));
  }
}

const shows = { snapshot: (data) => { showContainers(data); showGpus(data); }, services: showServices, builds: showBuilds, findings: showFindings };

function draw() {
  for (const kind of changed) {
    shows[kind](latest[kind]);
    for (const name of chartsOf[kind] ?? []) if (!charts[name].box.closest("[hidden]")) charts[name].draw();
  }
  if (changed.has("snapshot") || changed.has("services")) showTiles();
  changed.clear();
}

const age = { seenAt: -Infinity, time: null, gap: 1, state: "connecting", retryAt: 0 };

function take(kind, data, secondsOld) {
  remember(kind, data);
  latest[kind] = data;
  if (kind === "snapshot") {
    const gap = age.time === null ? 1 : data.time - age.time;
    if (gap > 0 && secondsOld === 0) age.gap = Math.min(60, 0.8 * age.gap + 0.2 * gap);
    age.time = data.time;
    age.seenAt = performance.now() - secondsOld * 1000;
  }
  if (!changed.size) requestAnimationFrame(draw);
  changed.add(kind);
}

function showAge() {
  const seconds = (performance.now() - age.seenAt) / 1000;
  const isStale = age.time !== null && seconds > Math.max(5, 4 * age.gap);
  const state = age.state !== "live" ? age.state : isStale ? "stale" : age.time === null ? "connecting" : "live";
  $("state").dataset.state = state;
  setText($("state-text"), { live: "live", stale: "stale", lost: "not connected", connecting: "connecting" }[state]);
  const wait = Math.max(0, Math.ceil((age.retryAt - performance.now()) / 1000));
  const parts = [
    age.time === null ? "" : `figures of ${clock(age.time)}`,
    isStale ? `${format("seconds", Math.floor(seconds))} old` : "",
    state === "lost" ? `trying again in ${wait} s` : "",
  ];
  setText($("age"), parts.filter(Boolean).join(", "));
  document.body.toggleAttribute("data-stale", isStale || state === "lost");
}

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  setText($("theme"), theme);
  $("theme").setAttribute("aria-label", `Colours: ${theme}`);
  try { localStorage.setItem("theme", theme); } catch { /* the browser keeps nothing for this page */ }
  redraw();
}

function redraw() {
  for (const chart of Object.values(charts)) if (chart.plot) { chart.rebuild(); chart.say(); }
}

function savedTheme() {
  try { return THEMES.find((theme) => theme === localStorage.getItem("theme")) ?? "auto"; } catch { return "auto"; }
}

$("theme").addEventListener("click", () => {
  setTheme(THEMES[(THEMES.indexOf($("theme").textContent) + 1) % THEMES.length]);
});
$("find").addEventListener("input", () => { if (latest.snapshot) showContainers(latest.snapshot); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
setTheme(savedTheme());
setInterval(showAge, 500);
new Stream("events", take, (state, wait = 0) => {
  age.state = state;
  age.retryAt = performance.now() + wait;
  showAge();
});
