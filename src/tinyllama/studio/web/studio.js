// The page: its parts, the families, and the events that say what changed.
import { ask, currentLanguage, failure, h, setLanguage, t } from "./dom.js";
import { DataPart } from "./data.js";
import { PlaygroundPart } from "./playground.js";
import { RecipePart } from "./recipe.js";
import { RunsPart } from "./runs.js";
import { ScoresPart } from "./scores.js";

const PARTS = { runs: RunsPart, scores: ScoresPart, data: DataPart, playground: PlaygroundPart, recipe: RecipePart };
const TITLES = { runs: () => t("Runs"), scores: () => t("Scores"), data: () => t("Data"), playground: () => t("Playground"), recipe: () => t("Recipe") };
const main = document.getElementById("content");
const picker = document.getElementById("family");
const connection = document.getElementById("connection");

/** What all parts read: the families as the server lists them, and the one that is chosen. */
const state = { families: [], recipes: [], gpus: [], control: false, chosen: null, get family() { return this.families.find((family) => family.id === this.chosen); } };
let part = null, name = "";

function translate() {
  document.documentElement.lang = currentLanguage();
  for (const node of document.querySelectorAll("[data-t]")) {
    node.dataset.text = node.dataset.text || node.textContent;
    node.textContent = t(node.dataset.text);
  }
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
}

/** `#data/mini` names a part and a family. */
function readAddress() {
  const [wanted, family] = location.hash.slice(1).split("/").map(decodeURIComponent);
  if (family && state.families.some((known) => known.id === family)) state.chosen = family;
  return wanted in PARTS ? wanted : "runs";
}

function show(again = false) {
  const wanted = readAddress();
  picker.value = state.chosen;
  for (const link of document.querySelectorAll("nav a")) {
    const own = link.getAttribute("href").slice(1).split("/")[0];
    link.href = `#${own}/${encodeURIComponent(state.chosen || "")}`;
    if (own === wanted) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (part && wanted === name && !again) {
    part.choose();
    return;
  }
  if (part) part.close();
  name = wanted;
  document.title = `${TITLES[wanted]()} · TinyLlama studio`;
  part = new PARTS[wanted](state);
  main.replaceChildren(part.element);
  part.choose();
}

async function load() {
  const found = await ask("api/families");
  const names = (list) => list.map((family) => family.id).join("\n");
  const others = names(found.families) !== names(state.families);
  Object.assign(state, found);
  if (!state.family) state.chosen = state.families.length ? state.families[0].id : null;
  if (others) {
    picker.replaceChildren(...state.families.map((family) => h("option", { value: family.id }, family.id)));
    picker.value = state.chosen;
  }
}

function listen() {
  const events = new EventSource("api/events");
  let waiting = false, last = 0, changed = new Set();
  const refresh = async () => {
    waiting = false;
    last = Date.now();
    const ids = changed;
    changed = new Set();
    try {
      await load();
      part.changed(ids);
    } catch (error) {
      connection.textContent = String(error.message);
    }
  };
  const soon = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(refresh, Math.max(0, 500 - (Date.now() - last)));
  };
  events.addEventListener("open", () => { connection.textContent = t("live"); connection.className = "live"; soon(); });
  events.addEventListener("error", () => { connection.textContent = t("not connected; trying again"); connection.className = "lost"; });
  events.addEventListener("change", (event) => { JSON.parse(event.data).forEach((id) => changed.add(id)); soon(); });
  events.addEventListener("alive", soon);
}

async function start() {
  translate();
  const language = document.getElementById("language");
  language.value = currentLanguage();
  language.addEventListener("change", () => { setLanguage(language.value); translate(); show(true); });
  picker.addEventListener("change", () => { location.hash = `${name}/${encodeURIComponent(picker.value)}`; });
  addEventListener("hashchange", () => show());
  try {
    await load();
    show();
    listen();
  } catch (error) {
    main.replaceChildren(failure(error));
  }
}

start();
