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

/** What all parts read: the families as the server lists them, and the one that is chosen; and what parts keep. */
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

/** Take over what the server said of all families. */
function list(families) {
  const names = (known) => known.map((family) => family.id).join("\n"), others = names(families) !== names(state.families);
  const before = state.chosen;
  state.families = families;
  if (!state.family) state.chosen = families.length ? families[0].id : null;
  if (!others) return;
  picker.replaceChildren(...families.map((family) => h("option", { value: family.id }, family.id)));
  picker.value = state.chosen;
  if (part && before !== state.chosen) show(); // the chosen one is gone, or the first one came
}

async function load() {
  const { families, ...others } = await ask("api/families");
  Object.assign(state, others);
  list(families);
}

function connected(text, kind) {
  connection.textContent = text;
  connection.className = kind;
}

/** Follow the server's events. What changes while nobody sees the page is shown when somebody does. */
function listen() {
  const events = new EventSource("api/events"), changed = new Set();
  const tell = () => {
    if (document.hidden || !changed.size) return;
    const ids = new Set(changed);
    changed.clear();
    part.changed(ids);
  };
  events.addEventListener("ready", async () => {
    try {
      await load();
      connected(t("live"), "live");
      state.families.forEach((family) => changed.add(family.id));
      tell();
    } catch (error) {
      connected(String(error.message), "lost");
    }
  });
  events.addEventListener("error", () => {
    connected(events.readyState === EventSource.CLOSED ? t("The studio was started anew: open the address that it printed.") : t("not connected; trying again"), "lost");
  });
  events.addEventListener("change", (event) => {
    const { listed, changed: views } = JSON.parse(event.data), known = new Map([...state.families, ...views].map((family) => [family.id, family]));
    [...state.families.map((family) => family.id).filter((id) => !listed.includes(id)), ...views.map((family) => family.id)].forEach((id) => changed.add(id));
    list(listed.filter((id) => known.has(id)).map((id) => known.get(id)));
    tell();
  });
  document.addEventListener("visibilitychange", tell);
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
