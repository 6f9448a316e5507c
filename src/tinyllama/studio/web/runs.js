// Runs: how far each model is, and its curves over tokens; several families side by side at equal tokens.
import { Chart } from "./chart.js";
import { ControlPanel } from "./control.js";
import { ask, count, duration, english, failure, fromServer, h, number, patch, s, t, table } from "./dom.js";

const DASHES = ["none", "7 4", "2 3", "10 4 2 4"];
const STATES = {
  waiting: () => t("waiting"), starting: () => t("starting"), training: () => t("training"), silent: () => t("silent"),
  stopped: () => t("stopped"), killed: () => t("killed"), failed: () => t("failed"), done: () => t("done"),
};
const PATIENCE = 100; // times as long as it took to fetch and draw the curves, until they are renewed
const gib = (bytes) => (bytes === null ? "—" : `${number(bytes / 2 ** 30, 1)} GiB`);
const percent = (value) => (value === null ? "—" : `${(100 * value).toFixed(1)}%`);

/** A curve that begins at its parent's last point before the fork. */
function continued(parent, own, fork) {
  const before = parent.x.filter((tokens) => tokens <= fork).length - 1;
  if (before < 0) return own;
  const joined = {};
  for (const [part, values] of Object.entries(own)) joined[part] = [parent[part][before], ...values];
  return joined;
}

/** Curves to which came what the server sent. */
function extended(old, more) {
  if (!old || more.after < 0) return more;
  const count = (values) => values.filter((tokens) => tokens <= more.after).length;
  const join = (was, now, kept) => (Array.isArray(now) ? [...(was || []).slice(0, kept), ...now] : Object.fromEntries(Object.keys(now).map((name) => [name, join((was || {})[name], now[name], kept)])));
  const kept = count(old.tokens), { held_out: heldOut, ...columns } = more, joined = { ...more };
  for (const [name, values] of Object.entries(columns)) if (typeof values === "object") joined[name] = join(old[name], values, kept);
  joined.held_out = { ...old.held_out };
  for (const [corpus, curve] of Object.entries(heldOut)) joined.held_out[corpus] = join(old.held_out[corpus], curve, old.held_out[corpus] ? count(old.held_out[corpus].tokens) : 0);
  joined.steps_per_point = Math.max(old.steps_per_point, more.steps_per_point);
  return joined;
}

export class RunsPart {
  constructor(state) {
    this.state = state;
    this.shown = new Set();
    this.hidden = new Set();
    this.zoom = null;
    this.charts = new Map();
    this.beside = h("fieldset", { class: "chips" });
    this.head = h("div", {});
    this.models = h("div", {});
    this.problems = h("div", {});
    this.held = new Map();
    this.control = new ControlPanel(state);
    this.legend = h("div", { class: "chips", role: "group", "aria-label": t("Show or hide models") });
    this.span = h("span", { role: "status" });
    const button = (text, action) => h("button", { type: "button", onclick: action }, text);
    this.tools = h("div", { class: "tools" },
      button(t("Zoom in"), () => this.scale(0.5)), button(t("Zoom out"), () => this.scale(2)), button(t("All"), () => this.setZoom(null)), this.span);
    this.failures = h("div", {});
    this.grid = h("div", { class: "charts" });
    this.details = h("div", {});
    this.curves = h("section", { "aria-labelledby": "curves-title" },
      h("h2", { id: "curves-title" }, t("Curves")),
      h("p", { class: "lead" }, t("By tokens seen. A line is the mean of the steps at a point, its band their least and greatest loss. Drag to zoom.")),
      this.beside, this.legend, this.tools, this.failures, this.grid, this.details);
    this.element = h("div", {}, h("h1", {}, t("Runs")), this.head, this.models, this.problems, this.control.element, this.curves);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.control.close();
  }

  choose() {
    this.shown = new Set(this.state.chosen ? [this.state.chosen] : []);
    this.zoom = null;
    this.refresh();
  }

  changed() {
    this.show();
    this.soon();
  }

  refresh() {
    this.show();
    return this.fetchCurves();
  }

  show() {
    if (this.state.chosen) this.shown.add(this.state.chosen);
    this.showStatus();
    this.control.show();
    this.showChoices();
  }

  /** Renew the curves at once, but where steps are fast or the machine is slow, seldom. */
  soon() {
    if (this.timer) return;
    this.timer = setTimeout(async () => {
      const began = performance.now();
      await this.fetchCurves();
      this.next = performance.now() + PATIENCE * (performance.now() - began);
      this.timer = null;
      if (!this.failures.children.length && this.outdated()) this.soon();
    }, Math.max(0, (this.next || 0) - performance.now()));
  }

  showStatus() {
    const family = this.state.family, known = family && !family.error;
    this.curves.hidden = !known;
    if (!known) {
      this.drawn = null;
      this.models.replaceChildren();
      this.problems.replaceChildren();
      this.head.replaceChildren(...(family ? [h("h2", {}, family.id), failure(new Error(family.error))]
        : [h("p", { class: "absent" }, t("No family is here yet. A family appears when its training begins:"), " ", h("code", {}, "tinyllama reproduce nano"))]));
      return;
    }
    const drawn = [family.id, family.name, family.description, family.tree].join("\n");
    if (this.drawn !== drawn) {
      this.drawn = drawn;
      this.head.replaceChildren(h("h2", {}, family.name), h("p", { class: "lead" }, family.description),
        h("p", { class: "soft" }, t("{} parameters", count(family.parameters)), " · ", h("code", {}, family.folder)), fromServer(family.tree));
      this.clips = this.clip(family);
    }
    family.models.forEach((model, index) => this.clips[index].setAttribute("width", (100 * model.tokens) / this.end(family)));
    const problems = family.models.filter((model) => model.error).map((model) => failure(new Error(`${model.name}: ${model.error}`)));
    const left = family.seconds_left === null ? [] : [h("p", { class: "soft" }, t("Time left for all models: {}", duration(family.seconds_left)))];
    patch(this.models, h("div", {}, this.modelTable(family), left));
    patch(this.problems, h("div", {}, problems));
  }

  /** Tokens at the end of the longest model. */
  end(family) {
    return Math.max(1, ...family.models.map((model) => model.end_tokens));
  }

  /** Make the branches of the tree pale, but for what is trained: the rectangles that bound it, one for each model. */
  clip(family) {
    const svg = this.head.querySelector(".tree svg"), [, , , height] = svg.getAttribute("viewBox").split(" ");
    return [...svg.querySelectorAll(".branch")].map((branch, index) => {
      const bounds = s("rect", { x: 0, y: 0, width: 0, height }), trained = branch.cloneNode();
      branch.classList.add("ahead");
      trained.setAttribute("clip-path", `url(#trained-${index})`);
      svg.append(s("clipPath", { id: `trained-${index}` }, bounds), trained);
      return bounds;
    });
  }

  modelTable(family) {
    const heads = [t("model"), t("state"), t("tokens"), t("step"), t("stage"), t("loss"), t("LR"), t("batch"), t("tokens/s"), t("MFU"), t("time left")];
    const rows = family.models.map((model) => {
      const done = Math.max(0, model.tokens - model.start_tokens), all = Math.max(1, model.end_tokens - model.start_tokens);
      const share = model.tokens ? Math.min(1, done / all) : 0, color = this.color(model.name);
      const progress = h("span", { class: "progress", "aria-hidden": "true" }, h("span", { style: { width: `${100 * share}%`, background: color } }));
      const state = h("span", { class: `state ${model.state}` }, STATES[model.state]());
      const reading = model.behind > 4e6 ? h("small", {}, t("reading: {} left", `${count(model.behind)}B`)) : null;
      return [
        [h("span", { class: "swatch", style: { background: color } }), model.name], [state, model.reason && h("small", { lang: "en" }, model.reason), reading],
        [`${count(model.tokens || model.start_tokens)} / ${count(model.end_tokens)}`, progress], model.step ? model.step.toLocaleString("en") : "—",
        model.stage || "—", number(model.loss), number(model.lr), model.batch ? count(model.batch) : "—", count(model.tokens_per_second),
        model.mfu === null ? "—" : percent(model.mfu), duration(model.seconds_left),
      ];
    });
    return table(t("How far each model is"), heads, rows, "models");
  }

  showChoices() {
    const others = this.state.families.filter((family) => !family.error);
    this.beside.hidden = others.length < 2;
    const choices = [...others.map((family) => family.id), "", ...this.shown].join("\n");
    if (this.choices !== choices) {
      this.choices = choices;
      this.beside.replaceChildren(h("legend", {}, t("Families at equal tokens")), ...others.map((family) => h("label", { class: "chip" }, h("input", {
        type: "checkbox", checked: this.shown.has(family.id), disabled: family.id === this.state.chosen,
        onchange: (event) => { this.shown[event.target.checked ? "add" : "delete"](family.id); this.refresh(); } }), ` ${family.id}`)));
    }
    const models = [...new Set(this.families().flatMap((family) => family.models.filter((model) => model.step).map((model) => model.name)))];
    if (this.named === models.join("\n")) return;
    this.named = models.join("\n");
    this.legend.replaceChildren(...models.map((model) => h("button", {
      type: "button", class: "chip", "aria-pressed": String(!this.hidden.has(model)),
      onclick: (event) => {
        if (!this.hidden.delete(model)) this.hidden.add(model);
        event.currentTarget.setAttribute("aria-pressed", String(!this.hidden.has(model)));
        this.draw();
      } }, h("span", { class: "swatch", style: { background: this.color(model) } }), model)));
  }

  families() {
    return this.state.families.filter((family) => this.shown.has(family.id) && !family.error);
  }

  /** By its name, among those of all families that are shown. */
  color(model) {
    const names = new Set([...(this.state.family ? [this.state.family] : []), ...this.families()].flatMap((family) => family.models.map((other) => other.name)));
    return `var(--model-${[...names].indexOf(model)})`;
  }

  /** Tokens at both ends of the charts. */
  range() {
    if (this.zoom) return this.zoom;
    return [0, Math.max(1, ...this.families().flatMap((family) => family.models.map((model) => model.tokens)))];
  }

  setZoom(zoom) {
    const [, end] = [0, Math.max(1, ...this.families().flatMap((family) => family.models.map((model) => model.tokens)))];
    this.zoom = zoom && [Math.max(0, Math.round(zoom[0])), Math.min(end, Math.round(zoom[1]))];
    if (this.zoom && (this.zoom[1] - this.zoom[0] >= end || this.zoom[1] <= this.zoom[0])) this.zoom = null;
    this.fetchCurves();
  }

  scale(factor) {
    const [from, to] = this.range(), middle = (from + to) / 2;
    this.setZoom([middle - (middle - from) * factor, middle + (to - middle) * factor]);
  }

  /** What of a family is fetched, apart from what it has. */
  query() {
    const points = Math.min(1200, Math.max(200, Math.round(this.grid.clientWidth / 100) * 100)), span = this.zoom ? { from: this.zoom[0] - 1, to: this.zoom[1] } : {};
    return new URLSearchParams({ ...span, points });
  }

  /** The models of a family whose curves changed; all of them if nothing is there for these points and this span. */
  stale(family) {
    const held = this.held.get(family.id);
    const all = family.models.filter((model) => model.version);
    return !held || held.query !== String(this.query()) ? all : all.filter((model) => !held.curves[model.name] || held.curves[model.name].version < model.version || held.curves[model.name].history !== model.history);
  }

  outdated() {
    return !this.closed && this.families().some((family) => this.stale(family).length);
  }

  async fetchFamily(family) {
    const query = this.query(), address = `api/families/${encodeURIComponent(family.id)}/curves?`, held = this.held.get(family.id);
    if (!held || held.query !== String(query)) return { query: String(query), curves: await ask(address + query) };
    const parts = await Promise.all(this.stale(family).map((model) => {
      const { tokens, width, history } = held.curves[model.name] || { tokens: [] }, after = tokens.length > 1 ? tokens[tokens.length - 2] : -1;
      return ask(`${address}${query}&${new URLSearchParams({ model: model.name, after, width: width || 0, history: history || 0 })}`);
    }));
    const curves = { ...held.curves };
    for (const part of parts) for (const [name, more] of Object.entries(part)) curves[name] = extended(curves[name], more);
    return { query: held.query, curves };
  }

  async fetchCurves() {
    const families = this.families(), turn = (this.turn = (this.turn || 0) + 1);
    if (!families.length) return;
    const found = await Promise.allSettled(families.map((family) => this.fetchFamily(family)));
    if (turn !== this.turn || this.closed) return;
    this.held = new Map(families.flatMap((family, index) => (found[index].value ? [[family.id, found[index].value]] : [])));
    this.failures.replaceChildren(...found.flatMap((answer, index) => (answer.reason ? [failure(new Error(`${families[index].id}: ${answer.reason.message}`))] : [])));
    this.data = families.filter((family) => this.held.has(family.id)).map((family) => ({
      family, curves: this.held.get(family.id).curves, dash: DASHES[families.indexOf(family) % DASHES.length], several: families.length > 1 }));
    this.draw();
  }

  /** A line for each model that is shown, from its curves. */
  lines(read) {
    return this.data.flatMap(({ family, curves, dash, several }) => family.models.flatMap((model) => {
      const found = curves[model.name] && !this.hidden.has(model.name) ? read(curves[model.name]) : null;
      if (!found) return [];
      const parent = curves[model.parent] && read(curves[model.parent]);
      const joined = parent ? continued(parent, found, model.start_tokens) : found;
      return [{ name: several ? `${family.id} ${model.name}` : model.name, color: this.color(model.name), dash, ...joined }];
    }));
  }

  draw() {
    if (!this.data) return;
    const [from, to] = this.range();
    this.span.textContent = this.zoom ? t("{} to {} tokens", count(from), count(to)) : t("all {} tokens", count(to));
    const column = (name) => (curve) => ({ x: curve.tokens, y: curve.means[name] });
    const marks = this.data.flatMap(({ family }) => family.models.filter((model) => !this.hidden.has(model.name)).flatMap((model) => [
      ...model.checkpoints.filter((saved) => saved.tokens !== null).map((saved) => ({ x: saved.tokens, kind: "saved", color: this.color(model.name), text: t("checkpoint of {} at step {}", model.name, saved.step) })),
      ...model.spikes.map((spike) => ({ x: spike.tokens, kind: "spike", color: "currentColor", text: `${model.name}: ${spike.text}` }))]));
    const stages = this.data.flatMap(({ family, several }) => family.stages.slice(1).map(([stage, begin]) => (
      { x: begin, kind: "stage", color: "currentColor", text: several ? `${family.id} ${stage}` : t("begin of stage {}", stage) })));
    const wanted = [
      ["loss", t("Training loss, nats"), { height: 300, log: true }, this.lines((curve) => ({ x: curve.tokens, y: curve.loss, low: curve.low, high: curve.high })), marks],
      ...this.corpora().filter((corpus) => this.data.some(({ curves }) => Object.values(curves).some((curve) => corpus in curve.held_out))).map((corpus) =>
        [`held-out ${corpus}`, t("Held-out loss on {}, nats", corpus), { log: true }, this.lines((curve) => curve.held_out[corpus] && { x: curve.held_out[corpus].tokens, y: curve.held_out[corpus].losses })]),
      ["lr", t("Learning rate"), { zero: true, show: (value) => (value ? value.toExponential(1) : "0") }, this.lines(column("lr"))],
      ["batch", t("Batch, tokens"), { zero: true, show: count }, this.lines((curve) => ({ x: curve.tokens, y: curve.batch }))],
      ...this.corpora().map((corpus) => [`share ${corpus}`, t("Share of {}", corpus), { zero: true, show: percent }, this.lines((curve) => curve.shares[corpus] && { x: curve.tokens, y: curve.shares[corpus] })]),
      ["speed", t("Tokens per second"), { zero: true, show: count }, this.lines(column("tokens_per_second"))],
      ["mfu", t("MFU"), { zero: true, show: percent }, this.lines(column("mfu"))],
      ...(this.data.some(({ curves }) => Object.values(curves).some((curve) => curve.means.memory.some((value) => value !== null)))
        ? [["memory", t("Memory of the first rank, at most so far"), { zero: true, show: gib }, this.lines(column("memory"))]] : []),
      ["norm", t("Gradient norm"), { log: true }, this.lines(column("grad_norm"))],
    ];
    for (const [name, title, options, lines, marked] of wanted) {
      if (!this.charts.has(name)) {
        const chart = new Chart({ title, ...options, onzoom: (zoom) => this.setZoom(zoom) });
        if (name === "loss") chart.element.classList.add("wide");
        this.charts.set(name, chart);
      }
      this.charts.get(name).set(lines, [from, to], [...stages, ...(marked || [])]);
    }
    const kept = new Set(wanted.map(([name]) => name));
    for (const name of [...this.charts.keys()].filter((known) => !kept.has(known))) this.charts.delete(name);
    const order = wanted.map(([name]) => this.charts.get(name).element);
    if (order.some((element, index) => this.grid.children[index] !== element) || this.grid.children.length !== order.length) this.grid.replaceChildren(...order);
    this.showDetails();
  }

  corpora() {
    return [...new Set(this.families().flatMap((family) => family.corpora))];
  }

  showDetails() {
    const models = this.data.flatMap(({ family, several }) => family.models.map((model) => ({ ...model, name: several ? `${family.id} ${model.name}` : model.name })));
    const saved = models.filter((model) => model.checkpoints.length).map((model) => [model.name, model.checkpoints.map((checkpoint) => checkpoint.step.toLocaleString("en")).join(", ")]);
    const spikes = models.flatMap((model) => model.spikes.map((spike) => [model.name, spike.step.toLocaleString("en"), english(spike.text)]));
    const skipped = models.reduce((sum, model) => sum + model.skipped, 0);
    patch(this.details, h("div", {},
      h("h3", {}, t("Checkpoints")), saved.length ? table(t("Checkpoints"), [t("model"), t("steps")], saved, "left") : h("p", {}, t("None on this machine.")),
      h("h3", {}, t("Skipped steps")), spikes.length ? table(t("Skipped steps"), [t("model"), t("step"), t("cause")], spikes, "left") : h("p", {}, skipped ? t("{} steps, since gradients overflowed in fp16.", skipped) : t("None."))));
  }
}
