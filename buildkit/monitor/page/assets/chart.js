// A chart of a history: lines by uPlot, the legend as text, which says present figures or those under the cursor.

const MOST_LINES = 8;
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Chart {
  constructor(host, title, kind, history, { pinned = new Set(), max = null } = {}) {
    Object.assign(this, { title, kind, history, pinned, max, names: null, plot: null });
    this.when = element("output");
    this.legend = element("ul", { class: "legend" });
    this.box = element("div", { class: "plot", tabindex: "0", role: "img" });
    host.append(element("figure", {}, element("figcaption", {}, element("span", {}, title), this.when), this.box, this.legend));
    this.box.addEventListener("keydown", (event) => this.step(event));
    this.box.addEventListener("blur", () => this.plot?.setCursor({ left: -10, top: -10 }));
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.box);
  }

  size() {
    return { width: Math.max(120, this.box.clientWidth), height: this.box.clientHeight };
  }

  data() {
    return [this.history.times, ...this.names.map((name) => this.history.series.get(name) ?? [])];
  }

  draw() {
    const names = this.history.choose(MOST_LINES, this.pinned);
    const same = this.names && names.length === this.names.length && names.every((name) => this.names.includes(name));
    if (same && this.plot) this.plot.setData(this.data());
    else this.rebuild(names);
    this.say();
  }

  rebuild(names = this.names ?? []) {
    this.names = names;
    this.plot?.destroy();
    const grid = { stroke: style("--line"), width: 1 };
    const axis = { stroke: style("--soft"), grid, ticks: grid, font: "12px system-ui, sans-serif" };
    const lines = names.map((name, index) => ({ label: name, stroke: style(`--s${index}`), width: 1.6, points: { show: false } }));
    this.plot = new uPlot({
      ...this.size(),
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, y: false, sync: { key: "page" }, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, this.max?.() ?? 0, 1e-9) * 1.05] } },
      series: [{}, ...lines],
      axes: [
        { ...axis, space: 70, size: 34, values: (_, splits) => splits.map((at) => this.label(at)) },
        { ...axis, size: 64, values: (_, splits) => splits.map((value) => format(this.kind, value)) },
      ],
      hooks: { setCursor: [() => this.say()] },
    }, this.data(), this.box);
    this.legend.replaceChildren(...names.map((name, index) => {
      const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.setProperty("--tone", `var(--s${index})`);
      return element("li", {}, swatch, element("bdi", {}, plain(name)), element("b"));
    }));
  }

  label(at) {
    const { times } = this.history;
    return times[times.length - 1] - times[0] > 600 ? clock(at).slice(0, -3) : clock(at);
  }

  /** Says figures at the cursor, or the present ones. */
  say() {
    const { times, series } = this.history;
    const index = this.plot?.cursor.idx ?? times.length - 1;
    const values = this.names.map((name) => format(this.kind, series.get(name)?.[index]));
    this.legend.querySelectorAll("b").forEach((node, at) => setText(node, values[at] ?? NOTHING));
    setText(this.when, this.plot?.cursor.idx == null ? "" : clock(times[index]));
    const said = this.names.map((name, at) => `${plain(name)} ${values[at]}`).join(", ");
    this.box.setAttribute("aria-label", `${this.title}: ${said || "no figures yet"}`);
  }

  step(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (move === undefined || !this.plot || !this.history.times.length) return;
    event.preventDefault();
    const last = this.history.times.length - 1;
    const index = Math.max(0, Math.min(last, (this.plot.cursor.idx ?? last) + move));
    this.plot.setCursor({ left: this.plot.valToPos(this.history.times[index], "x"), top: 10 });
  }
}
