// Elements out of plain text, requests, numbers as text. Text becomes text: only what our server writes as HTML is HTML.
import { ZH } from "./zh.js";

const SVG = "http://www.w3.org/2000/svg";
const policy = window.trustedTypes
  ? trustedTypes.createPolicy("studio", { createHTML: (text) => text })
  : { createHTML: (text) => text };

let language = localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en");

export const currentLanguage = () => language;

export function setLanguage(name) {
  language = name;
  localStorage.setItem("language", name);
}

/** A text of the interface in the reader's language; `{}` stands for the values in order. */
export function t(text, ...values) {
  const found = (language === "zh" && ZH[text]) || text;
  return values.reduce((filled, value) => filled.replace("{}", () => String(value)), found);
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.entries(value).forEach(([key, setting]) => node.style.setProperty(key, setting));
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element: `h("p", {class: "note"}, "text", child)`. */
export const h = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);

/** An SVG element. */
export const s = (tag, properties = {}, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

/** Text that the server wrote, in English whatever the page's language. */
export const english = (text) => h("span", { lang: "en" }, text);

/** What the server wrote as HTML: the report's own sections and pictures, in which all text is escaped. */
export function fromServer(html) {
  const template = document.createElement("template");
  template.innerHTML = policy.createHTML(html);
  return h("div", { lang: "en" }, template.content);
}

/** Make a node like another one. What is alike stays the same node, with its scroll position, focus and selection. */
export function patch(old, now) {
  if (old.isEqualNode(now)) return;
  for (const name of old.getAttributeNames()) if (!now.hasAttribute(name)) old.removeAttribute(name);
  for (const name of now.getAttributeNames()) if (old.getAttribute(name) !== now.getAttribute(name)) old.setAttribute(name, now.getAttribute(name));
  const olds = [...old.childNodes];
  [...now.childNodes].forEach((node, index) => {
    const was = olds[index];
    if (!was) old.append(node);
    else if (was.nodeName !== node.nodeName) was.replaceWith(node);
    else if (node.nodeType !== Node.TEXT_NODE) patch(was, node);
    else if (was.data !== node.data) was.data = node.data;
  });
  olds.slice(now.childNodes.length).forEach((node) => node.remove());
}

/** A table with a caption for screen readers, which scrolls on a narrow screen. */
export function table(caption, heads, rows, kind = "") {
  const cells = (row) => row.map((cell, index) => (index ? h("td", {}, cell) : h("th", { scope: "row" }, cell)));
  return h("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": caption },
    h("table", { class: kind },
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, cells(row))))));
}

/** The answer to a request; an Error with the server's text if it refuses. */
export async function ask(path, body = undefined, signal = undefined) {
  const options = body === undefined ? { signal } : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal };
  const answer = await fetch(path, options);
  const text = await answer.text();
  let value = {};
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error(text.slice(0, 300) || `${answer.status}`);
  }
  if (!answer.ok) throw new Error(value.error || `${answer.status}`);
  return value;
}

/** Post a body, and give what each of the server-sent events that answer holds to `take`, until they end. */
export async function follow(path, body, signal, take) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal });
  if (!answer.ok) throw new Error((await answer.json()).error || `${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) take(JSON.parse(event.slice(event.indexOf("data: ") + 6)));
  }
}

/** The line that says why a part is not shown: a text of the page, or an Error with one of the server. */
export const failure = (error) => h("p", { class: "absent", role: "alert", lang: error instanceof Error ? "en" : null }, String(error.message || error));

/** 1234567 → `1.23M`. */
export function count(value) {
  if (value === null || value === undefined) return "—";
  for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]]) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  }
  return String(Number(value.toPrecision(4)));
}

/** A number with few digits; a dash for none. */
export function number(value, digits = 3) {
  if (value === null || value === undefined) return "—";
  return value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6) ? value.toExponential(2) : value.toFixed(digits);
}

/** Seconds as `3 h 20 min`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "—";
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = units.findIndex(([size]) => seconds >= size);
  if (at < 0) return `${seconds.toFixed(1)} s`;
  const [size, unit] = units[at];
  const rest = at < 3 ? Math.floor((seconds % size) / units[at + 1][0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${units[at + 1][1]}` : ""}`;
}
