// Tables whose rows stay where the reader is: rows and cells are kept by key, and only what differs is written.

const DULL = /^(0( %)?|–)$/;

/** A cell is a text, or {text, small, tone, share}: a second line, good/warn/bad, and a bar. */
class Table {
  constructor(host, label, columns, { onPick = null, sort = null } = {}) {
    this.columns = columns;
    this.onPick = onPick;
    this.sort = sort;
    this.rows = new Map();
    this.heads = columns.map((column) => this.makeHead(column));
    this.body = element("tbody", { role: "rowgroup" });
    const head = element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...this.heads));
    // The roles are repeated, as a narrow screen shows rows as cards, and a table that is laid out as a block is none.
    const table = element("table", { role: "table", "aria-label": label }, head, this.body);
    host.append(element("div", { class: "scroll" }, table));
  }

  makeHead(column) {
    const head = element("th", { scope: "col", role: "columnheader" });
    if (!this.sort || !column.order) {
      head.append(column.title);
      return head;
    }
    const button = element("button", { type: "button" }, column.title);
    button.addEventListener("click", () => this.sortBy(column));
    head.append(button);
    return head;
  }

  sortBy(column) {
    const falling = this.sort.column !== column ? column.falling !== false : !this.sort.falling;
    this.sort = { column, falling };
    this.columns.forEach((one, index) => {
      if (one === column) this.heads[index].setAttribute("aria-sort", falling ? "descending" : "ascending");
      else this.heads[index].removeAttribute("aria-sort");
    });
    if (this.items) this.show(this.items);
  }

  /** Shows items, which have a key; `tone` colours a row. */
  show(items) {
    this.items = items;
    const wanted = new Set(items.map((item) => item.key));
    for (const [key, row] of this.rows) {
      if (!wanted.has(key)) { row.node.remove(); this.rows.delete(key); }
    }
    let before = null;
    for (const item of this.ordered(items)) {
      const row = this.rows.get(item.key) ?? this.makeRow(item.key);
      row.node.className = item.tone ?? "";
      this.columns.forEach((column, index) => fill(row.cells[index], column.cell(item), column));
      const place = before ? before.nextSibling : this.body.firstChild;
      if (place !== row.node) this.body.insertBefore(row.node, place);
      before = row.node;
    }
  }

  ordered(items) {
    if (!this.sort?.column) return items;
    const { column, falling } = this.sort;
    const sign = falling ? -1 : 1;
    const weight = (item) => column.order(item) ?? -Infinity;
    return [...items].sort((one, other) => {
      const [a, b] = [weight(one), weight(other)];
      return a === b ? 0 : (a < b ? -sign : sign);
    });
  }

  makeRow(key) {
    const cells = this.columns.map((_, index) =>
      index === 0 ? element("th", { scope: "row", role: "rowheader" }) : element("td", { role: "cell" }));
    const node = element("tr", { role: "row" }, ...cells);
    if (this.onPick) {
      const button = element("button", { type: "button", "aria-pressed": "false" });
      button.addEventListener("click", () => this.onPick(key, button));
      cells[0].append(button);
    }
    const row = { node, cells };
    this.rows.set(key, row);
    return row;
  }
}

function fill(cell, value, { title: label, isText = false }) {
  const { text, small = "", tone = "", share = null, parts = null } = typeof value === "object" ? value : { text: value };
  const isFigure = !isText && cell.tagName === "TD";
  const state = JSON.stringify([text, small, tone, share, parts]);
  if (cell.shown === state) return;
  cell.shown = state;
  if (cell.tagName === "TD") cell.setAttribute("data-label", label);
  cell.className = `${tone} ${isFigure ? "figure" : ""}`.trim();
  cell.toggleAttribute("data-empty", !text && !parts);
  cell.toggleAttribute("data-dull", DULL.test(text)); // not shown on a phone
  const button = cell.querySelector("button");
  const main = button ?? element("span");
  main.replaceChildren(element("bdi", {}, plain(text)));
  const extra = [];
  if (small) extra.push(element("small", {}, plain(small)));
  if (share !== null) extra.push(bar(share));
  if (parts) extra.push(stack(parts));
  cell.replaceChildren(element("div", {}, main, ...extra));
}

function bar(share) {
  const inner = element("i");
  setShare(inner, share);
  return element("span", { class: "bar", "aria-hidden": "true" }, inner);
}

function stack(parts) {
  const pieces = parts.map(({ share, tone, label }) => {
    const piece = element("i", { title: plain(label) });
    setShare(piece, share);
    piece.style.setProperty("--tone", `var(${tone})`);
    return piece;
  });
  return element("span", { class: "stack", role: "img", "aria-label": plain(parts.map((part) => part.label).join(", ")) }, ...pieces);
}
