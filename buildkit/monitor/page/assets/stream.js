// The stream of figures: read, and begun again when it ends, after pauses that grow from one second to half a minute.

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 30000;
const KINDS = ["snapshot", "services", "builds", "findings"];

class Stream {
  constructor(address, onEvent, onState) {
    Object.assign(this, { address, onEvent, onState, source: null, timer: null, pause: FIRST_PAUSE, last: "" });
    this.hello = { now: 0, number: 0 };
    window.addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.retry(); });
    this.open();
  }

  open() {
    const source = new EventSource(this.last ? `${this.address}?after=${encodeURIComponent(this.last)}` : this.address);
    this.source = source;
    source.addEventListener("hello", (event) => {
      this.pause = FIRST_PAUSE;
      this.hello = JSON.parse(event.data);
      this.onState("live");
    });
    for (const kind of KINDS) source.addEventListener(kind, (event) => this.take(kind, event));
    source.addEventListener("error", () => this.lose(source));
  }

  /** Hands an event on. Those that were there before the page came are as old as the monitor says they are. */
  take(kind, event) {
    this.last = event.lastEventId;
    const data = JSON.parse(event.data);
    const isPast = Number(this.last.split("-")[1]) <= this.hello.number;
    this.onEvent(kind, data, isPast && data.time ? Math.max(0, this.hello.now - data.time) : 0);
  }

  // The browser's own reconnecting gives up for good at an answer such as 503, and does not slow down.
  lose(source) {
    if (source !== this.source) return;
    source.close();
    this.source = null;
    const wait = this.pause * (0.75 + Math.random() / 2);
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    this.onState("lost", wait);
    this.timer = setTimeout(() => { this.timer = null; this.open(); }, wait);
  }

  retry() {
    if (this.timer === null) return;
    clearTimeout(this.timer);
    this.timer = null;
    this.open();
  }
}
