// Starting, stopping and resuming families on this machine, where the studio was started with --control.
import { ask, failure, h, patch, t } from "./dom.js";

const PAUSE = 1000;

function outcome(code) {
  if (code === null) return t("running");
  return code === 0 ? t("finished") : t("ended with {}", code);
}

export class ControlPanel {
  constructor(state) {
    this.state = state;
    this.buttons = h("div", { class: "tools" });
    this.message = h("p", { role: "status" });
    this.commands = h("div", {});
    this.cards = new Map();
    this.element = h("section", { class: "control", hidden: !state.control }, this.buttons, this.message, this.commands);
    if (state.control) this.look();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
  }

  /** Show the buttons of the chosen family. */
  show() {
    const family = this.state.family, button = (text, action) => h("button", { type: "button", onclick: action }, text);
    if (!this.state.control || !family || family.error) {
      this.buttons.replaceChildren();
      return;
    }
    const address = `api/families/${encodeURIComponent(family.id)}`, states = family.models.map((model) => model.state).join(" ");
    if (this.shown === address + states) return;
    this.shown = address + states;
    const runs = family.models.some((model) => model.state === "training" || model.state === "starting");
    this.buttons.replaceChildren(runs ? button(t("Stop training"), () => this.send(`${address}/stop`))
      : button(t("Resume training"), () => this.send(`${address}/resume`)));
  }

  /** Begin the family of a recipe. */
  start(text) {
    return this.send("api/commands", { text });
  }

  async send(address, body = {}) {
    this.message.replaceChildren();
    try {
      const { name } = await ask(address, body);
      this.message.replaceChildren(address.endsWith("/stop") ? t("{} saves its state and ends.", name) : t("{} is started.", name));
    } catch (error) {
      this.message.replaceChildren(failure(error));
    }
    this.look();
  }

  async look() {
    clearTimeout(this.timer);
    try {
      const { commands } = await ask("api/commands");
      if (this.closed) return;
      this.list(commands);
      if (commands.some((command) => command.exit_code === null)) this.timer = setTimeout(() => this.look(), PAUSE);
    } catch (error) {
      this.commands.replaceChildren(failure(error));
    }
  }

  /** Show the commands; the card of a command stays the same element. */
  list(commands) {
    for (const command of commands) {
      const card = this.card(command), known = this.cards.get(command.id);
      if (known) patch(known, card);
      else this.cards.set(command.id, card);
    }
    const cards = commands.map((command) => this.cards.get(command.id));
    if (cards.length !== this.commands.children.length || cards.some((card, index) => card !== this.commands.children[index])) this.commands.replaceChildren(...cards);
  }

  card(command) {
    const stop = h("button", { type: "button", onclick: () => this.send(`api/commands/${command.id}/stop`) }, t("Stop {}", command.name));
    return h("article", { class: "piece" }, h("p", {}, h("code", {}, command.command), " · ", outcome(command.exit_code)),
      command.output && h("pre", { tabindex: 0, lang: "en" }, command.output), command.exit_code === null && stop);
  }
}
