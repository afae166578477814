// Figures as text, and foreign text made harmless. Every text reaches the page as a text node, never as HTML.

const NOTHING = "–";

function scaled(value, step, units) {
  let index = 0;
  let rest = Math.abs(value);
  while (rest >= step * 0.9995 && index < units.length - 1) { rest /= step; index += 1; }
  const digits = index === 0 || rest >= 99.5 ? 0 : 1;
  return `${value < 0 ? "−" : ""}${rest.toFixed(digits)} ${units[index]}`;
}

const formats = {
  bytes: (value) => scaled(value, 1000, ["B", "kB", "MB", "GB", "TB"]),
  rate: (value) => `${formats.bytes(value)}/s`,
  cpus: (value) => value.toFixed(value < 9.995 ? 2 : 1),
  share: (value) => `${(value * 100).toFixed(value < 0.0995 && value > 0 ? 1 : 0)} %`,
  count: (value) => (Number.isInteger(value) ? String(value) : value.toFixed(2)),
  perSecond: (value) => `${value.toFixed(value < 9.95 ? 1 : 0)} /s`,
  number: (value) => value.toFixed(2),
  seconds: (value) => {
    if (value === 0) return "0 ms";
    if (value < 0.9995) return `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms`;
    if (value < 59.95) return `${value.toFixed(1)} s`;
    const whole = Math.round(value);
    return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  },
  celsius: (value) => `${value.toFixed(0)} °C`,
  watts: (value) => `${value.toFixed(0)} W`,
};

function format(kind, value) {
  return typeof value === "number" && Number.isFinite(value) ? formats[kind](value) : NOTHING;
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

function day(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

// Control characters, and marks that turn the direction of text, are shown as what they are not: a box.
const DECEIVING = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const LONGEST = 200;

function plain(text) {
  const safe = String(text ?? "").replace(DECEIVING, "\ufffd");
  return safe.length > LONGEST ? `${safe.slice(0, LONGEST)}…` : safe;
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setShare(node, share) {
  node.style.setProperty("--share", `${Math.max(0, Math.min(1, share)) * 100}%`);
}
