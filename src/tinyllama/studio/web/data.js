// Data: what a step saw, when a text is seen, the corpora, and the documents that they do not hold.
import { ask, count, english, failure, h, t, table } from "./dom.js";

const ROWS = 4;

export class DataPart {
  constructor(state) {
    this.state = state;
    this.steps = h("div", { "aria-live": "polite" });
    this.document = h("div", {});
    this.places = h("div", {});
    this.progress = h("p", { role: "status", class: "soft" });
    this.corpora = h("div", {});
    this.entries = h("div", {});
    this.model = h("select", {});
    this.step = h("input", { type: "number", min: 1, value: 1, required: true });
    this.text = h("input", { type: "search", required: true });
    this.kind = h("select", {}, h("option", { value: "text" }, t("text")), h("option", { value: "origin" }, t("origin of a document")));
    this.button = h("button", { type: "submit" }, t("Search"));
    const field = (label, input) => h("label", {}, h("span", {}, label), " ", input);
    const send = (action) => (event) => { event.preventDefault(); action(); };
    this.element = h("div", {}, h("h1", {}, t("Data")),
      this.section("step", t("What a step saw"), t("The rows of a step, decoded, each with its documents and where they come from."),
        h("form", { class: "form", onsubmit: send(() => this.readStep(0)) }, field(t("model"), this.model), field(t("step"), this.step), h("button", { type: "submit" }, t("Show"))), this.steps, this.document),
      this.section("search", t("When a text is seen"), t("Looks through all corpora of the family, held-out text included; long corpora take a while."),
        h("form", { class: "form", onsubmit: send(() => this.search()) }, field(t("look for"), this.kind), field(t("exactly"), this.text), this.button), this.progress, this.places),
      this.section("corpora", t("Corpora"), t("As they were prepared. Quarantined documents are not in a corpus, but for those of the kind repaired."), this.corpora, this.entries));
  }

  section(id, title, lead, ...content) {
    return h("section", { "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), h("p", { class: "lead" }, lead), ...content);
  }

  get address() {
    return `api/families/${encodeURIComponent(this.state.chosen)}`;
  }

  close() {
    this.stop();
  }

  choose() {
    this.stop();
    for (const part of [this.steps, this.document, this.places, this.entries, this.corpora]) part.replaceChildren();
    this.progress.textContent = "";
    const family = this.state.family;
    this.model.replaceChildren(...(family ? family.models : []).map((model) => h("option", {}, model.name)));
    if (family && !family.error) this.listCorpora();
    else this.corpora.replaceChildren(failure(family ? new Error(family.error) : t("No family is here yet.")));
  }

  changed() {}

  async readStep(first) {
    const model = this.model.value, step = Number(this.step.value);
    this.steps.replaceChildren(h("p", {}, t("Loading…")));
    try {
      const found = await ask(`${this.address}/models/${encodeURIComponent(model)}/steps/${step}?first=${first}&count=${ROWS}`);
      const more = (text, at) => h("button", { type: "button", onclick: () => this.readStep(at) }, text);
      this.steps.replaceChildren(
        h("p", { class: "soft" }, t("step {} of {}, rows {} to {} of {}", step.toLocaleString("en"), found.steps.toLocaleString("en"), first, first + found.rows.length - 1, found.batch), this.updated(found.rows)),
        ...found.rows.map((row) => this.row(row)),
        h("p", { class: "tools" }, first > 0 && more(t("Rows before"), Math.max(0, first - ROWS)), first + ROWS < found.batch && more(t("Next rows"), first + ROWS)));
    } catch (error) {
      this.steps.replaceChildren(failure(error));
    }
  }

  updated(rows) {
    const update = rows.length && rows[0].update;
    return update === "skipped" ? h("b", {}, " · ", t("fed, update skipped")) : update === "later" && ` · ${t("not trained yet")}`;
  }

  row(row) {
    return h("article", { class: "seen" }, h("h3", {}, t("row {}", row.position), " ", h("small", {}, `${row.corpus}:${row.row}`)),
      row.pieces.map((piece) => h("div", { class: "piece" },
        h("p", { class: "origin" }, h("button", { type: "button", class: "link", onclick: () => this.lookFor("origin", piece.origin) }, piece.origin),
          " · ", t("document {}, part {}, tokens {} to {}", piece.document, piece.part, piece.start, piece.start + piece.tokens), " · ",
          h("button", { type: "button", class: "link", onclick: () => this.openDocument(row.corpus, piece.origin) }, t("whole document"))),
        h("pre", { tabindex: 0, dir: "auto" }, piece.text))));
  }

  /** Show a document, whatever rows its parts are in. */
  async openDocument(corpus, origin) {
    try {
      const found = await ask(`${this.address}/corpora/${encodeURIComponent(corpus)}/document?${new URLSearchParams({ origin })}`);
      const title = h("h3", { tabindex: -1 }, t("Document {}", origin));
      this.document.replaceChildren(title, ...found.parts.map((part) => h("div", { class: "piece" },
        h("p", { class: "origin" }, t("part {}, {} tokens", part.part, part.tokens.toLocaleString("en")), part.split === "held_out" && ` · ${t("held out")}`), h("pre", { tabindex: 0, dir: "auto" }, part.text))),
      found.cut && h("p", { class: "soft" }, t("The document is longer; its end is not shown.")));
      title.focus();
    } catch (error) {
      this.document.replaceChildren(failure(error));
    }
  }

  lookFor(kind, text) {
    this.kind.value = kind;
    this.text.value = text;
    this.search();
    this.text.focus();
  }

  stop() {
    if (this.events) this.events.close();
    this.events = null;
    this.button.textContent = t("Search");
  }

  search() {
    if (this.events) {
      this.stop();
      this.progress.textContent = t("Stopped.");
      return;
    }
    this.button.textContent = t("Stop");
    this.progress.textContent = t("Searching…");
    const rows = [];
    this.places.replaceChildren();
    this.events = new EventSource(`${this.address}/search?${new URLSearchParams({ [this.kind.value]: this.text.value })}`);
    this.events.addEventListener("found", (event) => {
      const message = JSON.parse(event.data);
      if (message.waits) this.progress.textContent = t("Waiting for another search to end…");
      if (message.progress) this.progress.textContent = message.progress;
      if (message.found) {
        rows.push(this.place(message.found));
        this.places.replaceChildren(table(t("Places"), [t("where"), t("corpus"), t("row"), t("seen at steps")], rows, "left"));
      }
      if (message.error || "complete" in message) {
        this.stop();
        this.progress.textContent = message.error || (message.complete ? t("{} places, all of them.", rows.length) : t("The first {} places.", rows.length));
      }
    });
    this.events.addEventListener("error", () => { this.stop(); this.progress.textContent = t("The search was cut off."); });
  }

  place(found) {
    const seen = Object.entries(found.steps).map(([model, steps]) => {
      const skipped = found.skipped[model] || [], later = found.later[model] || [];
      const saw = steps.filter((step) => !skipped.includes(step) && !later.includes(step));
      const parts = [saw.length && saw.join(", "), skipped.length && t("fed, update skipped: {}", skipped.join(", ")), later.length && t("later: {}", later.join(", "))].filter(Boolean);
      return h("div", {}, h("b", {}, model), " ", parts.join("; ") || t("never"));
    });
    return [found.origin, found.corpus, found.row === null ? t("held out") : String(found.row), found.row === null ? t("never") : seen];
  }

  async listCorpora() {
    try {
      const { corpora } = await ask(`${this.address}/corpora`);
      const heads = [t("corpus"), t("documents"), t("training tokens"), t("held-out tokens"), t("bytes"), t("license"), t("sources"), t("quarantined")];
      const rows = corpora.map((corpus) => corpus.error ? [corpus.name, english(corpus.error)] : [
        corpus.name, (corpus.splits.train.documents + corpus.splits.held_out.documents).toLocaleString("en"), count(corpus.splits.train.tokens), count(corpus.splits.held_out.tokens),
        count(corpus.splits.train.bytes + corpus.splits.held_out.bytes), corpus.license, corpus.sources.join(", "), this.kinds(corpus)]);
      this.corpora.replaceChildren(table(t("Corpora"), heads, rows, "left"));
    } catch (error) {
      this.corpora.replaceChildren(failure(error));
    }
  }

  kinds(corpus) {
    const kinds = Object.entries(corpus.quarantined).filter(([, entries]) => entries);
    if (!kinds.length) return "0";
    return kinds.map(([kind, entries]) => h("button", { type: "button", class: "link", onclick: () => this.listEntries(corpus.name, kind, 0, "") }, `${kind} ${entries.toLocaleString("en")}`));
  }

  async listEntries(corpus, kind, first, text) {
    try {
      const found = await ask(`${this.address}/corpora/${encodeURIComponent(corpus)}/quarantined?${new URLSearchParams({ kind, first, text })}`);
      const rows = found.entries.map((entry) => [entry.origin, entry.kind, english(entry.reason), h("code", {}, entry.excerpt)]);
      const title = h("h3", { tabindex: -1 }, t("Quarantined in {}: {}", corpus, kind));
      const filter = h("input", { type: "search", value: text });
      const form = h("form", { class: "form", onsubmit: (event) => { event.preventDefault(); this.listEntries(corpus, kind, 0, filter.value); } },
        h("label", {}, h("span", {}, t("only those with")), " ", filter), h("button", { type: "submit" }, t("Filter")));
      this.entries.replaceChildren(title, form, table(t("Quarantined documents"), [t("where"), t("kind"), t("reason"), t("begins with")], rows, "left"),
        h("p", { class: "tools" }, found.more && h("button", { type: "button", onclick: () => this.listEntries(corpus, kind, first + rows.length, text) }, t("Next"))));
      title.focus();
    } catch (error) {
      this.entries.replaceChildren(failure(error));
    }
  }
}
