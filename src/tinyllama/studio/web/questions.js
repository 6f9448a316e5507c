// Two models on the questions that both answered: the tests of `tinyllama compare`, and each question that changed.
import { ask, english, failure, h, t, table } from "./dom.js";

const SHOWN = 20;

export class Questions {
  constructor() {
    this.first = h("select", {});
    this.second = h("select", {});
    this.task = h("select", { onchange: () => this.list(0) });
    this.direction = h("select", { onchange: () => this.list(0) },
      h("option", { value: "all" }, t("all that changed")), h("option", { value: "better" }, t("for the better")), h("option", { value: "worse" }, t("for the worse")));
    this.result = h("div", {});
    this.choices = h("div", { class: "form" }, h("label", {}, h("span", {}, t("task")), " ", this.task), h("label", {}, h("span", {}, t("questions")), " ", this.direction));
    this.questions = h("div", { "aria-live": "polite" });
    this.element = h("section", { "aria-labelledby": "questions-title", hidden: true },
      h("h2", { id: "questions-title" }, t("Question by question")),
      h("p", { class: "lead" }, t("Two models on what both were asked: whether chance explains their differences, and the questions that they answered with different scores.")),
      h("form", { class: "form", onsubmit: (event) => { event.preventDefault(); this.compare(); } },
        h("label", {}, h("span", {}, t("model")), " ", this.first), h("label", {}, h("span", {}, t("against")), " ", this.second), h("button", { type: "submit" }, t("Compare"))),
      this.result);
  }

  /** The models of a family that have records. */
  offer(family, models) {
    this.element.hidden = models.length < 2;
    if (this.family === family && this.models === models.join("\n")) return;
    Object.assign(this, { family, models: models.join("\n") });
    for (const [select, at] of [[this.first, 0], [this.second, 1]]) {
      select.replaceChildren(...models.map((model) => h("option", {}, model)));
      if (models[at] !== undefined) select.value = models[at];
    }
    this.result.replaceChildren();
  }

  async compare() {
    const { family } = this, first = this.first.value, second = this.second.value;
    this.result.replaceChildren(h("p", { role: "status" }, t("Comparing…")));
    try {
      const found = await ask(`api/families/${[family, "compared", first, second].map(encodeURIComponent).join("/")}`);
      if (family !== this.family) return;
      this.tasks = found.tasks;
      this.task.replaceChildren(...found.tasks.map((task, index) => h("option", { value: index }, task.task)));
      this.names = [first, second];
      const head = [...found.header.slice(0, 3).map(english), first, second, ...found.header.slice(5).map(english)];
      this.result.replaceChildren(
        table(t("{} against {}", second, first), head, found.rows), ...found.gaps.map((gap) => h("p", { class: "absent", lang: "en" }, gap)), h("p", { class: "soft", lang: "en" }, found.method),
        ...(found.tasks.length ? [h("h3", {}, t("Questions that changed")), this.choices, this.questions] : []));
      if (found.tasks.length) this.list(0);
    } catch (error) {
      this.result.replaceChildren(failure(error));
    }
  }

  list(from) {
    const { summary, changes, more, lower_is_better: lower } = this.tasks[Number(this.task.value)], wanted = this.direction.value;
    const chosen = changes.filter((change) => wanted === "all" || ((change.after < change.before) === lower) === (wanted === "better"));
    const go = (text, to) => h("button", { type: "button", onclick: () => this.list(to) }, text);
    this.questions.replaceChildren(
      h("p", { lang: "en" }, summary), ...chosen.slice(from, from + SHOWN).map((change) => this.question(change)),
      h("p", { class: "tools" }, from > 0 && go(t("Before"), Math.max(0, from - SHOWN)), from + SHOWN < chosen.length && go(t("Next"), from + SHOWN)),
      h("p", { class: "soft" }, more > 0 && t("{} more are in what `tinyllama compare --out` writes.", more.toLocaleString("en"))));
  }

  question(change) {
    const [first, second] = this.names;
    return h("article", { class: "seen" }, h("h4", {}, t("question {}", change.question), ` · ${change.before} → ${change.after}`), h("pre", { tabindex: 0 }, change.asked),
      h("dl", {}, [[first, change.first], [second, change.second], [t("right"), change.right]].map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)))));
  }
}
