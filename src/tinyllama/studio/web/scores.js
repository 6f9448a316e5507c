// Scores: the report's own sections, with its figures drawn by the page's charts.
import { Chart } from "./chart.js";
import { ask, failure, fromServer, h, number, t } from "./dom.js";
import { Questions } from "./questions.js";

const PAUSE = 5000;

export class ScoresPart {
  constructor(state) {
    this.state = state;
    this.content = h("div", {});
    this.questions = new Questions();
    this.element = h("div", {}, h("h1", {}, t("Scores")), this.content, this.questions.element);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
  }

  async choose() {
    const family = this.state.family;
    this.seen = null;
    this.questions.offer("", []);
    if (!family || family.error) {
      this.content.replaceChildren(failure(family ? new Error(family.error) : t("No family is here yet.")));
      return;
    }
    this.content.replaceChildren(h("p", { role: "status" }, t("Loading…")));
    await this.load();
  }

  changed(ids) {
    if (!ids.has(this.state.chosen) || this.timer) return; // a family changes with every step
    this.timer = setTimeout(() => { this.timer = null; this.load(); }, PAUSE);
  }

  async load() {
    const family = this.state.family;
    if (!family || family.error) return;
    try {
      const found = await ask(`api/families/${encodeURIComponent(family.id)}/scores`);
      const text = JSON.stringify(found);
      if (this.closed || family.id !== this.state.chosen || text === this.seen) return;
      this.seen = text;
      this.content.replaceChildren(fromServer(found.html));
      this.questions.offer(family.id, found.recorded);
      found.figures.forEach((figure) => this.draw(figure, family));
    } catch (error) {
      this.content.replaceChildren(failure(error));
    }
  }

  draw(figure, family) {
    const place = [...this.content.querySelectorAll(".chart")].find((node) => node.id === figure.id);
    if (!place) return;
    const chart = new Chart({ title: "", height: 220, show: (value) => number(value) });
    const end = Math.max(1, ...figure.lines.flatMap((line) => line.x));
    const color = (model) => (model === null ? "currentColor" : `var(--model-${family.models.findIndex((known) => known.name === model)})`);
    place.removeAttribute("role");
    place.replaceChildren(chart.element);
    chart.set(figure.lines.map((line) => ({ ...line, color: color(line.model), dash: line.model === null ? "5 4" : "none" })), [0, end]);
    chart.surface.setAttribute("aria-label", figure.label);
  }
}
