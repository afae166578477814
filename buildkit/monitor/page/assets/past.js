// Figures of the last minutes by name, of bounded size. Times only grow: a clock that was set back begins anew.

const GAP = 30; // seconds

class Past {
  constructor(points = 600, names = 64) {
    this.points = points;
    this.names = names;
    this.clear();
  }

  clear() {
    this.times = [];
    this.series = new Map();
  }

  get latest() {
    return this.times.length ? this.times[this.times.length - 1] : -Infinity;
  }

  /** Adds figures of a moment; one that is there already changes nothing. Lines do not run across gaps. */
  push(time, figures) {
    if (time === this.latest) return;
    if (time < this.latest) this.clear();
    if (time - this.latest > GAP && this.times.length) this.append(this.latest + GAP / 2, []);
    this.append(time, figures.length > this.names ? this.largest(figures) : figures);
    this.forget();
  }

  /** Of too many figures, those that a chart would show: what is not kept takes no room on its way either. */
  largest(figures) {
    return [...figures].sort((one, other) => (other[1] ?? -Infinity) - (one[1] ?? -Infinity)).slice(0, this.names);
  }

  append(time, figures) {
    this.times.push(time);
    for (const [name, value] of figures) {
      if (!this.series.has(name)) this.series.set(name, new Array(this.times.length - 1).fill(null));
      this.series.get(name).push(value ?? null);
    }
    for (const values of this.series.values()) if (values.length < this.times.length) values.push(null);
    if (this.times.length > this.points) {
      this.times.shift();
      for (const values of this.series.values()) values.shift();
    }
  }

  /** Drops what has no figure left and, of too many names, those that have had none for the longest time. */
  forget() {
    const lastSeen = (values) => values.findLastIndex((value) => value !== null);
    for (const [name, values] of this.series) if (lastSeen(values) < 0) this.series.delete(name);
    if (this.series.size <= this.names) return;
    const ordered = [...this.series].sort((one, other) => lastSeen(other[1]) - lastSeen(one[1]));
    this.series = new Map(ordered.slice(0, this.names));
  }

  /** Names with a present figure, the largest first; those that are pinned come before all others. */
  choose(count, pinned = new Set()) {
    const now = (name) => this.series.get(name)[this.times.length - 1];
    const present = [...this.series.keys()].filter((name) => now(name) !== null);
    const chosen = pinned.size ? present.filter((name) => pinned.has(name)) : present;
    return chosen.sort((one, other) => now(other) - now(one)).slice(0, count);
  }
}
