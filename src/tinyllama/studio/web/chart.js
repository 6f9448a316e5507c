// A chart over tokens seen: lines with the band of their buckets, marks, a readout by pointer and keyboard, zoom by drag.
import { count, h, number, s, t } from "./dom.js";

const LEFT = 58, RIGHT = 10, TOP = 10, BOTTOM = 26;

/** Round values between two, about `most` of them. */
function ticks(low, high, most) {
  if (!(high > low)) return [low];
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(at);
  return found;
}

/** The index of the value nearest to one, in a sorted list. */
function nearest(values, wanted) {
  let low = 0, high = values.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low > 0 && wanted - values[low - 1] < values[low] - wanted ? low - 1 : low;
}

export class Chart {
  /** `onzoom` gets the ends of a selected span of tokens, or null for the whole. */
  constructor({ title, height = 200, log = false, show = number, zero = false, onzoom = null }) {
    Object.assign(this, { title, height, log, show, zero, onzoom });
    this.lines = [];
    this.marks = [];
    this.range = null;
    this.at = null;
    this.readout = h("output", { class: "readout", "aria-live": "polite" });
    this.svg = s("svg", { height, "aria-hidden": "true" });
    this.surface = h("div", {
      class: "plot", tabindex: 0, role: "group",
      onpointermove: (event) => this.point(event), onpointerleave: () => this.move(null),
      onpointerdown: (event) => this.begin(event), onpointerup: (event) => this.end(event),
      onpointercancel: () => { this.drag = null; },
      onkeydown: (event) => this.key(event), ondblclick: () => onzoom && onzoom(null),
    }, this.svg);
    this.element = h("figure", { class: "figure" }, h("figcaption", {}, title), this.surface, this.readout);
    this.near = true;
    new ResizeObserver(() => this.draw()).observe(this.surface);
    new IntersectionObserver(([{ isIntersecting }]) => {
      this.near = isIntersecting;
      if (this.stale) this.draw();
    }, { rootMargin: "50%" }).observe(this.surface);
  }

  /** Lines are {name, color, dash, x, y, low, high}; marks {x, text, kind}; `range` the tokens at both ends. */
  set(lines, range, marks = []) {
    this.lines = lines.filter((line) => line.x.length);
    this.marks = marks.filter((mark) => mark.x >= range[0] && mark.x <= range[1]);
    this.range = range;
    this.surface.setAttribute("aria-label", this.label());
    this.draw();
  }

  label() {
    const ends = this.lines.map((line) => `${line.name} ${this.show(line.y[line.y.length - 1])}`);
    return `${this.title}. ${t("At the end:")} ${ends.join(", ")}. ${t("Arrow keys read values, plus and minus zoom.")}`;
  }

  scale() {
    const values = [];
    for (const line of this.lines) {
      for (const part of [line.y, line.low || [], line.high || []]) {
        for (const value of part) if (value !== null && (!this.log || value > 0)) values.push(value);
      }
    }
    let low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!Number.isFinite(low)) [low, high] = [0, 1];
    if (this.zero) low = Math.min(0, low);
    if (low === high) [low, high] = this.log ? [low / 1.1, high * 1.1] : [low - Math.abs(low || 1) / 10, high + Math.abs(high || 1) / 10];
    const convert = this.log ? Math.log : (value) => value;
    const room = (convert(high) - convert(low)) * 0.04;
    const bottom = convert(low) - (this.zero && low === 0 ? 0 : room), top = convert(high) + room;
    const inner = this.height - TOP - BOTTOM;
    this.y = (value) => TOP + inner * (1 - (convert(value) - bottom) / (top - bottom));
    const plain = ticks(this.log ? Math.exp(bottom) : bottom, this.log ? Math.exp(top) : top, Math.max(2, inner / 44));
    return plain.filter((value) => !this.log || value > 0);
  }

  /** Draw; far from what is seen, only once it comes near. */
  draw() {
    this.stale = !this.near && this.lines.length > 0 && this.drawn;
    if (this.stale || !this.range) return;
    const width = this.surface.clientWidth;
    if (!width) return;
    this.drawn = this.lines.length > 0;
    this.width = width;
    const [from, to] = this.range, inner = width - LEFT - RIGHT;
    this.x = (tokens) => LEFT + (inner * (tokens - from)) / Math.max(to - from, 1);
    const grid = this.scale().map((value) => s("g", {},
      s("path", { d: `M${LEFT} ${this.y(value)}H${width - RIGHT}`, class: "grid-line" }),
      s("text", { x: LEFT - 6, y: this.y(value) + 4, "text-anchor": "end" }, this.show(value))));
    const below = ticks(from, to, Math.max(2, inner / 90)).map((value) =>
      s("text", { x: this.x(value), y: this.height - 8, "text-anchor": "middle" }, count(value)));
    const marks = this.marks.map((mark) => s("path", {
      class: `mark ${mark.kind}`, d: `M${this.x(mark.x)} ${this.height - BOTTOM}${mark.kind === "stage" ? `V${TOP}` : "v-8"}`, style: { stroke: mark.color } },
    s("title", {}, mark.text)));
    this.cursor = s("g", {});
    this.svg.setAttribute("width", width);
    this.svg.replaceChildren(...grid, ...below, ...this.lines.flatMap((line) => this.paths(line)), ...marks, this.cursor);
    if (this.at !== null) this.move(this.at);
  }

  paths(line) {
    const parts = [];
    if (line.low) {
      const known = line.x.map((_, index) => index).filter((index) => line.low[index] !== null && line.high[index] !== null);
      const edge = (values, order) => order.map((index) => `${this.x(line.x[index]).toFixed(1)},${this.y(values[index]).toFixed(1)}`);
      const outline = [...edge(line.high, known), ...edge(line.low, [...known].reverse())];
      parts.push(s("polygon", { points: outline.join(" "), class: "range", style: { fill: line.color, stroke: line.color } }));
    }
    let path = "", pen = false;
    line.x.forEach((tokens, index) => {
      const value = line.y[index], drawn = value !== null && (!this.log || value > 0);
      if (drawn) path += `${pen ? "L" : "M"}${this.x(tokens).toFixed(1)} ${this.y(value).toFixed(1)}`;
      pen = drawn;
    });
    if (line.x.length === 1 && path) path += "h0.1";
    parts.push(s("path", { d: path, class: "line", style: { stroke: line.color, "stroke-dasharray": line.dash || "none" } }));
    return parts;
  }

  tokensAt(event) {
    const [from, to] = this.range, left = this.surface.getBoundingClientRect().left;
    const share = (event.clientX - left - LEFT) / (this.width - LEFT - RIGHT);
    return from + Math.min(1, Math.max(0, share)) * (to - from);
  }

  point(event) {
    if (this.range && this.width) this.move(this.tokensAt(event));
  }

  /** Show the values at a number of tokens; null for none. */
  move(tokens) {
    this.at = tokens;
    if (!this.cursor) return;
    this.cursor.replaceChildren();
    if (tokens === null || !this.lines.length) {
      this.readout.textContent = "";
      return;
    }
    this.cursor.append(s("path", { class: "cursor", d: `M${this.x(tokens)} ${TOP}V${this.height - BOTTOM}` }));
    const parts = [`${t("{} tokens", count(tokens))}`];
    for (const line of this.lines) {
      const [first, last] = [line.x[0], line.x[line.x.length - 1]], slack = (this.range[1] - this.range[0]) / 50;
      if (tokens < first - slack || tokens > last + slack) continue;
      const index = nearest(line.x, tokens), value = line.y[index];
      if (value === null) continue;
      this.cursor.append(s("circle", { cx: this.x(line.x[index]), cy: this.y(value), r: 4, style: { fill: line.color } }));
      const band = line.low && line.low[index] !== line.high[index] ? ` (${this.show(line.low[index])}–${this.show(line.high[index])})` : "";
      parts.push(`${line.name} ${this.show(value)}${band}`);
    }
    if (this.drag !== null && this.drag !== undefined) {
      const [a, b] = [this.x(this.drag), this.x(tokens)];
      this.cursor.append(s("rect", { class: "selection", x: Math.min(a, b), y: TOP, width: Math.abs(a - b), height: this.height - TOP - BOTTOM }));
    }
    this.readout.textContent = parts.join(" · ");
  }

  begin(event) {
    if (!this.onzoom || !this.range || event.button) return;
    this.drag = this.tokensAt(event);
    this.surface.setPointerCapture(event.pointerId);
  }

  end(event) {
    const from = this.drag;
    this.drag = null;
    if (from === null || from === undefined) return;
    const to = this.tokensAt(event);
    if (Math.abs(this.x(to) - this.x(from)) > 8) this.onzoom([Math.min(from, to), Math.max(from, to)]);
    else this.move(to);
  }

  key(event) {
    if (!this.range) return;
    const [from, to] = this.range, step = (to - from) / 100;
    const middle = this.at ?? (from + to) / 2;
    const zoom = (factor) => this.onzoom && this.onzoom([middle - (middle - from) * factor, middle + (to - middle) * factor]);
    const actions = {
      ArrowLeft: () => this.move(Math.max(from, middle - step)), ArrowRight: () => this.move(Math.min(to, middle + step)),
      Home: () => this.move(from), End: () => this.move(to), Escape: () => this.move(null),
      "+": () => zoom(0.5), "-": () => zoom(2), 0: () => this.onzoom && this.onzoom(null),
    };
    if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  }
}
