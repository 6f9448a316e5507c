// Recipe: a text that is checked as it is typed, its plan, cost and picture, and how it differs from the running one.
import { ControlPanel } from "./control.js";
import { ask, count, english, failure, fromServer, h, number, t, table } from "./dom.js";

const PAUSE = 400;

const shown = (value) => (value === null ? "—" : typeof value === "string" ? value : JSON.stringify(value));

/** Whether a changed key changes the weights of models that were trained already. */
function effect(change) {
  if (!change.decides) return t("no");
  return change.through === null ? t("yes") : t("through {}", change.through);
}

export class RecipePart {
  constructor(state) {
    this.state = state;
    this.kept = state.recipe = state.recipe || { texts: new Map(), family: null, source: "", gpu: "", gpus: "8", price: "" };
    this.source = h("select", { onchange: () => this.load() });
    this.text = h("textarea", { spellcheck: "false", rows: 28, "aria-describedby": "faults", oninput: () => this.edit(), wrap: "off" });
    this.faults = h("div", { id: "faults", role: "status" });
    this.gpu = h("select", { onchange: () => this.check() });
    this.gpus = h("input", { type: "number", min: 1, value: this.kept.gpus, onchange: () => this.check() });
    this.price = h("input", { type: "number", min: 0, step: "any", value: this.kept.price, onchange: () => this.check() });
    this.discard = h("button", { type: "button", hidden: true, onclick: () => { this.kept.texts.delete(this.source.value); this.load(); } }, t("Discard changes"));
    this.plan = h("div", { class: "plan" });
    const field = (label, input) => h("label", {}, h("span", {}, label), " ", input);
    const download = h("button", { type: "button", onclick: () => this.download() }, t("Download"));
    const start = state.control && h("button", { type: "button", onclick: () => this.control.start(this.text.value) }, t("Start training"));
    this.control = new ControlPanel(state);
    this.element = h("div", {}, h("h1", {}, t("Recipe")),
      h("p", { class: "lead" }, state.control ? t("Start training makes a family of the recipe beside the others. The plan follows as you type.")
        : t("Changes stay on this page: download the recipe to use it. The plan follows as you type.")),
      h("div", { class: "form" }, field(t("recipe"), this.source), field("GPU", this.gpu), field(t("number"), this.gpus), field(t("price of an hour"), this.price), download, this.discard, start), this.control.element,
      h("div", { class: "editor" }, h("label", { class: "code" }, h("span", { class: "unseen" }, t("Text of the recipe")), this.text), this.faults), this.plan);
  }

  close() {
    clearTimeout(this.timer);
    this.control.close();
    if (this.asked) this.asked.abort();
  }

  choose() {
    const own = this.state.families.map((family) => h("option", { value: `family/${family.id}` }, t("{}, as it runs", family.id)));
    this.source.replaceChildren(...own, ...this.state.recipes.map((name) => h("option", { value: `shipped/${name}` }, name)));
    const isBack = this.kept.family === this.state.chosen && [...this.source.options].some((option) => option.value === this.kept.source);
    if (isBack || this.state.chosen) this.source.value = isBack ? this.kept.source : `family/${this.state.chosen}`;
    this.gpu.replaceChildren(h("option", { value: "" }, t("no prediction")), ...this.state.gpus.map((gpu) => h("option", {}, gpu)));
    this.gpu.value = this.kept.gpu;
    this.load();
  }

  changed() {}

  /** Show a recipe: as it was edited here, if it was, until the changes are discarded. */
  async load() {
    const source = this.source.value, [kind, ...rest] = source.split("/"), name = encodeURIComponent(rest.join("/"));
    Object.assign(this.kept, { family: this.state.chosen, source });
    try {
      const text = this.kept.texts.get(source) ?? (await ask(kind === "family" ? `api/families/${name}/recipe` : `api/recipes/${name}`)).text;
      if (source !== this.source.value) return;
      this.text.value = text;
      this.mark();
      this.check();
    } catch (error) {
      this.faults.replaceChildren(failure(error));
    }
  }

  edit() {
    this.kept.texts.set(this.source.value, this.text.value);
    this.mark();
    this.soon();
  }

  /** Say which recipes were changed here. */
  mark() {
    this.discard.hidden = !this.kept.texts.has(this.source.value);
    for (const option of this.source.options) {
      option.dataset.name = option.dataset.name || option.textContent;
      option.textContent = option.dataset.name + (this.kept.texts.has(option.value) ? ` · ${t("changed on this page")}` : "");
    }
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), PAUSE);
  }

  async check() {
    clearTimeout(this.timer);
    Object.assign(this.kept, { gpu: this.gpu.value, gpus: this.gpus.value, price: this.price.value });
    if (this.asked) this.asked.abort();
    const asked = (this.asked = new AbortController());
    const family = this.state.family && !this.state.family.error ? this.state.chosen : "";
    const body = { text: this.text.value, family, gpu: this.gpu.value, gpus: Math.max(1, Math.round(Number(this.gpus.value)) || 1) };
    if (this.price.value !== "") body.price = Number(this.price.value);
    try {
      const found = await ask("api/recipe", body, asked.signal);
      if (asked === this.asked) this.show(found);
    } catch (error) {
      if (error.name !== "AbortError") this.faults.replaceChildren(failure(error));
    }
  }

  show(found) {
    this.text.setAttribute("aria-invalid", String(found.faults.length > 0));
    this.plan.classList.toggle("stale", found.faults.length > 0);
    if (found.faults.length) {
      this.faults.replaceChildren(h("ul", { class: "faults" }, found.faults.map((fault) => h("li", {},
        fault.line !== null && h("button", { type: "button", class: "link", onclick: () => this.jump(fault.line) }, t("line {}", fault.line)), " ", english(fault.text)))));
      return;
    }
    this.faults.replaceChildren(h("p", { class: "good" }, t("The recipe is valid.")));
    const parts = [];
    if (this.state.family) {
      parts.push(h("h2", {}, t("Difference from {}", this.state.chosen)), found.changes.length
        ? table(t("Difference"), [t("key"), t("running"), t("here"), t("decides the weights")], found.changes.map((change) => [change.key, shown(change.old), shown(change.new), effect(change)]), "left")
        : h("p", {}, t("None.")));
    }
    if (found.prediction) parts.push(...this.cost(found.prediction));
    parts.push(h("h2", {}, t("Plan")), h("div", { class: "scroll picture", tabindex: 0, role: "region", "aria-label": t("Learning rate, batch and shares by tokens") }, fromServer(found.plot)));
    for (const plan of found.plans) {
      parts.push(h("h3", {}, plan.model), table(t("Stages of {}", plan.model), found.stage_header.map(english), plan.stages, "left"), table(t("Corpora of {}", plan.model), found.corpus_header.map(english), plan.corpora));
    }
    this.plan.replaceChildren(...parts);
  }

  cost(prediction) {
    const gib = (bytes) => number(bytes / 2 ** 30, 1);
    const fits = prediction.fits ? t("fits") : t("does not fit");
    return [h("h2", {}, t("Cost")),
      h("p", {}, `${prediction.gpus} × ${prediction.card}: ${t("{} of {} GiB", gib(prediction.memory_total), gib(prediction.memory_limit))} (${fits}), ${t("{} tokens/s on each", count(prediction.tokens_per_second_per_gpu))}`),
      table(t("Cost"), [t("part"), t("tokens"), t("days"), t("GPU-hours"), t("cost")], prediction.spans.map((span) => [span.name, count(span.tokens), number(span.days, 1), Math.round(span.gpu_hours).toLocaleString("en"), span.cost === null ? "—" : Math.round(span.cost).toLocaleString("en")]))];
  }

  /** Select a line of the text. */
  jump(line) {
    const lines = this.text.value.split("\n"), start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    this.text.focus();
    this.text.setSelectionRange(start, start + (lines[line - 1] || "").length);
    this.text.scrollTop = ((line - 6) * this.text.scrollHeight) / lines.length;
  }

  download() {
    const address = URL.createObjectURL(new Blob([this.text.value], { type: "application/yaml" }));
    const link = h("a", { href: address, download: "recipe.yaml" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }
}
