// Playground: one prompt to the models of a family side by side, at one point of their training, token by token.
import { count, failure, follow, h, number, t } from "./dom.js";

const PRESETS = {
  card: { temperature: 1, top_k: 10, top_p: 1, repetition_penalty: 1.5 },
  own: { temperature: 1, top_k: 0, top_p: 1, repetition_penalty: 1 },
  greedy: { temperature: 0, top_k: 0, top_p: 1, repetition_penalty: 1 },
};
const KEPT = 200;
const ENDS = {
  end: (tokens) => t("{} tokens; the model ended the text.", tokens),
  length: (tokens) => t("{} tokens, as many as allowed.", tokens),
  context: (tokens) => t("{} tokens; the model's context is full.", tokens),
};
const percent = (logprob) => `${number(100 * Math.exp(logprob), 1)}%`;

/** The answer of one model: its text by tokens, and the token that the reader looks at. */
class Answer {
  constructor(model, index, checkpoint) {
    this.parts = [];
    this.at = null;
    this.tokens = 0;
    this.text = h("div", {
      class: "answer", tabindex: 0, role: "group", dir: "auto", "aria-label": t("Answer of {}. Arrow keys read the probabilities of its tokens.", model),
      onkeydown: (event) => this.key(event), onpointerover: (event) => this.point(event), onclick: (event) => this.point(event),
    });
    this.note = h("p", { class: "soft", role: "status" });
    this.detail = h("output", { class: "likely", "aria-live": "polite" });
    const where = checkpoint.tokens === null ? t("step {}", checkpoint.step.toLocaleString("en")) : t("step {}, {} tokens", checkpoint.step.toLocaleString("en"), count(checkpoint.tokens));
    this.element = h("article", { "aria-label": model, style: { "border-top-color": `var(--model-${index})` } },
      h("h3", {}, h("span", { class: "swatch", style: { background: `var(--model-${index})` } }), model, h("small", {}, where)), this.text, this.note, this.detail);
  }

  begin(prompt) {
    this.parts = [];
    this.tokens = 0;
    this.waiting = [];
    this.text.replaceChildren(h("span", { class: "prompt" }, prompt));
    this.look(null);
    this.note.textContent = t("Loading…");
  }

  /** What a step added. Tokens without text, such as the first bytes of a character, belong to the text that follows. */
  add(reply) {
    if (reply.problem) {
      this.note.textContent = "";
      this.text.append(failure(reply.problem));
      return;
    }
    this.tokens += reply.tokens.length;
    this.waiting.push(...reply.tokens);
    if (reply.text) {
      const last = this.waiting[this.waiting.length - 1];
      const node = h("span", { class: "token", style: last && { "--doubt": `${Math.round(100 * (1 - Math.exp(last.logprob)))}%` } }, reply.text);
      if (last) this.parts.push({ node, tokens: this.waiting });
      this.waiting = [];
      this.text.append(node);
    }
    this.note.textContent = reply.end ? ENDS[reply.end](this.tokens) : "";
  }

  look(at) {
    if (this.at !== null && this.parts[this.at]) this.parts[this.at].node.classList.remove("chosen");
    this.at = at;
    if (at === null) {
      this.detail.replaceChildren();
      return;
    }
    const { node, tokens } = this.parts[at];
    node.classList.add("chosen");
    node.scrollIntoView({ block: "nearest" });
    this.detail.replaceChildren(...tokens.flatMap((token) => [
      h("p", {}, h("code", {}, token.piece), " ", percent(token.logprob), " ", h("span", { class: "soft" }, t("the most likely here:"))),
      h("ol", {}, token.likeliest.map(([piece, logprob]) => h("li", { class: piece === token.piece ? "own" : "" },
        h("span", { class: "bar", "aria-hidden": "true", style: { width: `${100 * Math.exp(logprob)}%` } }), h("code", {}, piece), " ", percent(logprob))))]));
  }

  point(event) {
    const at = this.parts.findIndex((part) => part.node === event.target);
    if (at >= 0) this.look(at);
  }

  key(event) {
    const end = this.parts.length - 1, here = this.at === null ? -1 : this.at;
    const to = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: end }[event.key];
    if (event.key === "Escape") this.look(null);
    if (to === undefined || end < 0) return;
    event.preventDefault();
    this.look(Math.min(end, Math.max(0, to)));
  }
}

export class PlaygroundPart {
  constructor(state) {
    this.state = state;
    this.kept = state.playground = state.playground || { prompt: "", settings: { ...PRESETS.card, max_new_tokens: 60, seed: 0 }, left: new Set(), answers: new Map() };
    this.answers = new Map();
    this.prompt = h("textarea", { rows: 3, spellcheck: "false" });
    this.prompt.value = this.kept.prompt;
    this.preset = h("select", { onchange: () => this.choosePreset() },
      h("option", { value: "card" }, t("as in the model card")), h("option", { value: "own" }, t("the model's own probabilities")),
      h("option", { value: "greedy" }, t("the most likely token")), h("option", { value: "other" }, t("other")));
    const setting = (name, properties) => h("input", { type: "number", required: true, name, oninput: () => this.readSettings(), ...properties });
    this.inputs = [
      setting("temperature", { min: 0, step: "any" }), setting("top_k", { min: 0, step: 1 }), setting("top_p", { min: 0, max: 1, step: "any" }),
      setting("repetition_penalty", { min: 0.01, max: 100, step: "any" }), setting("max_new_tokens", { min: 1, step: 1 }), setting("seed", { step: 1 })];
    const labels = [t("temperature"), t("top-k, 0 for all"), t("top-p"), t("repetition penalty"), t("tokens at most"), t("seed")];
    this.button = h("button", { type: "submit" }, t("Continue the text"));
    this.models = h("fieldset", { class: "chips" });
    this.slider = h("input", { type: "range", min: 0, step: 1, oninput: () => this.showStop(), onchange: () => { if (this.asked) this.run(false); } });
    this.stop = h("output", {});
    this.training = h("label", { class: "training" }, h("span", {}, t("Trained on")), " ", this.slider, " ", this.stop);
    this.problem = h("div", {});
    this.grid = h("div", { class: "answers" });
    this.content = h("div", {},
      h("form", {
        class: "ask", onsubmit: (event) => this.submit(event),
        onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.submit(event); } },
        h("label", {}, h("span", {}, t("Text to continue")), this.prompt),
        h("div", { class: "form" }, h("label", {}, h("span", {}, t("sampling")), " ", this.preset), this.inputs.map((input, index) => h("label", {}, h("span", {}, labels[index]), " ", input))),
        this.models, this.training, h("p", { class: "tools" }, this.button, h("span", { class: "soft" }, t("or Ctrl+Enter")))),
      this.problem, h("p", { class: "soft" }, t("Point at a token, or use the arrow keys in an answer, for its probability and the five most likely tokens there. They are the model's own, before temperature and the other settings; the stronger a token's color, the less likely it is.")), h("h2", { class: "unseen" }, t("Answers")), this.grid);
    this.element = h("div", {}, h("h1", {}, t("Playground")),
      h("p", { class: "lead" }, t("All models of the family continue the same text. Move the slider to see what they wrote earlier in their training.")), this.content);
    this.showSettings();
  }

  close() {
    this.cancel();
  }

  choose() {
    this.cancel();
    this.asked = false;
    this.answers = new Map();
    this.grid.replaceChildren();
    this.problem.replaceChildren();
    this.stops = [];
    this.shown = "";
    this.changed();
  }

  /** Follow the family: its models, and the checkpoints that it keeps. */
  changed() {
    const family = this.state.family;
    const models = family && !family.error ? family.models.filter((model) => model.checkpoints.length) : [];
    this.content.hidden = !models.length;
    const problem = !family ? t("No family is here yet.") : family.error || t("No checkpoint of this family is on this machine yet.");
    if (this.absent) this.absent.remove();
    if (!models.length) this.element.append(this.absent = failure(family && family.error ? new Error(problem) : problem));
    const shown = JSON.stringify([this.state.chosen, models.map((model) => [model.name, model.checkpoints])]);
    if (shown === this.shown) return;
    this.shown = shown;
    const last = this.stops.length - 1, wasLast = Number(this.slider.value) >= last, was = this.stops[Number(this.slider.value)];
    this.stops = [...new Set(models.flatMap((model) => model.checkpoints.map((saved) => saved.tokens)))].filter((tokens) => tokens !== null).sort((a, b) => a - b);
    this.slider.max = Math.max(0, this.stops.length - 1);
    this.slider.value = wasLast || !this.stops.includes(was) ? this.stops.length - 1 : this.stops.indexOf(was);
    this.training.hidden = this.stops.length < 2;
    this.models.replaceChildren(h("legend", {}, t("Models")), ...models.map((model) => h("label", { class: "chip" }, h("input", {
      type: "checkbox", checked: !this.kept.left.has(model.name), onchange: (event) => this.kept.left[event.target.checked ? "delete" : "add"](model.name) }), ` ${model.name}`)));
    this.showStop();
  }

  showStop() {
    const tokens = this.stops[Number(this.slider.value)];
    this.stop.textContent = tokens === undefined ? "" : t("{} tokens", count(tokens));
    this.slider.setAttribute("aria-valuetext", this.stop.textContent);
    if (this.asked && this.wanted().every(({ checkpoint, key }) => !checkpoint || this.kept.answers.has(key))) this.run(false);
  }

  showSettings() {
    for (const input of this.inputs) input.value = this.kept.settings[input.name];
    this.showPreset();
  }

  choosePreset() {
    Object.assign(this.kept.settings, PRESETS[this.preset.value] || {});
    this.showSettings();
  }

  readSettings() {
    for (const input of this.inputs) if (input.value !== "" && input.validity.valid) this.kept.settings[input.name] = Number(input.value);
    this.showPreset();
  }

  showPreset() {
    const found = Object.entries(PRESETS).find(([, preset]) => Object.entries(preset).every(([name, value]) => this.kept.settings[name] === value));
    this.preset.value = found ? found[0] : "other";
  }

  /** The chosen models, each with its newest checkpoint at the slider's point; null before its first. */
  wanted() {
    const tokens = this.stops.length ? this.stops[Number(this.slider.value)] : Infinity;
    const question = { prompt: this.prompt.value, ...this.kept.settings };
    return this.state.family.models.flatMap((model, index) => {
      if (!model.checkpoints.length || this.kept.left.has(model.name)) return [];
      const before = model.checkpoints.filter((saved) => saved.tokens === null || saved.tokens <= tokens);
      const checkpoint = before.length ? before[before.length - 1] : null;
      return [{ model, index, checkpoint, key: JSON.stringify([this.state.chosen, model.name, checkpoint, question]) }];
    });
  }

  submit(event) {
    event.preventDefault();
    if (this.running) {
      this.cancel();
      return;
    }
    if (this.button.form.reportValidity()) this.run(true);
  }

  cancel() {
    if (this.running) this.running.abort();
    this.running = null;
    this.button.textContent = t("Continue the text");
    for (const answer of this.answers.values()) if (!answer.done) answer.note.textContent = t("Stopped.");
  }

  /** Ask the models; of those that answered the same before, show that again unless `anew`. */
  async run(anew) {
    this.cancel();
    const wanted = this.wanted(), prompt = (this.kept.prompt = this.prompt.value);
    this.asked = true;
    this.answers = new Map();
    this.problem.replaceChildren(...(wanted.length ? [] : [failure(t("Choose a model."))]));
    const models = {}, keys = {}, replies = {};
    this.grid.replaceChildren(...wanted.map(({ model, index, checkpoint, key }) => {
      if (!checkpoint) return h("article", { "aria-label": model.name }, h("h3", {}, model.name), h("p", { class: "absent" }, t("It has no checkpoint before {} tokens.", count(model.checkpoints[0].tokens))));
      const answer = new Answer(model.name, index, checkpoint), earlier = !anew && this.kept.answers.get(key);
      answer.begin(prompt);
      this.answers.set(model.name, answer);
      if (earlier) {
        earlier.forEach((reply) => answer.add(reply));
        answer.done = true;
      } else {
        models[model.name] = checkpoint.step;
        keys[model.name] = key;
        replies[model.name] = [];
      }
      return answer.element;
    }));
    if (!Object.keys(models).length) return;
    const running = (this.running = new AbortController()), answers = this.answers;
    this.button.textContent = t("Stop");
    try {
      await follow(`api/families/${encodeURIComponent(this.state.chosen)}/playground`, { prompt, models, ...this.kept.settings }, running.signal, (reply) => {
        if (reply.model === undefined) throw new Error(reply.error);
        const answer = answers.get(reply.model);
        answer.add(reply);
        replies[reply.model].push(reply);
        answer.done = Boolean(reply.end || reply.problem);
        if (reply.end) this.keep(keys[reply.model], replies[reply.model]);
      });
    } catch (error) {
      if (running === this.running) this.problem.replaceChildren(failure(error));
    }
    if (running === this.running) this.cancel();
  }

  keep(key, replies) {
    this.kept.answers.delete(key);
    this.kept.answers.set(key, replies);
    if (this.kept.answers.size > KEPT) this.kept.answers.delete(this.kept.answers.keys().next().value);
  }
}
