// Choose one of many by a few letters: a dialog with a field and a list. Used by the canvas and the command palette.
import { rank } from "../graph/core/rank.js";
import { showPassing } from "./passing_dialog.js";

const CUT_OFF = "The server cannot be reached just now. What you have done is kept; type again when it is back.";
let count = 0;

/** Ask for one. Returns the chosen item, or null when the person leaves.
 *
 * items: [{title, description?, group?, words?, reason?}]; one with a `reason` cannot be chosen and says why.
 * load: instead of items, a function of the words typed so far that answers with items in order.
 * empty: what stands there when nothing fits. */
export function pick({ title, placeholder = "", items = [], load = null, empty = "Nothing fits." }) {
  const id = `pick-${(count += 1)}`;
  const dialog = make("dialog", "pick", { "aria-labelledby": `${id}-title`, "data-testid": "pick" });
  const heading = make("h2", "pick-title", { id: `${id}-title` }, title);
  const field = make("input", "input", {
    type: "text", role: "combobox", "aria-expanded": "true", "aria-autocomplete": "list", "aria-controls": `${id}-list`,
    "aria-label": title, placeholder, autocomplete: "off", spellcheck: "false",
  });
  const list = make("ul", "pick-list", { id: `${id}-list`, role: "listbox", "aria-label": title });
  const note = make("p", "pick-note quiet small", { role: "status" });
  dialog.append(heading, field, list, note);

  let shown = [];
  let at = -1;
  let asked = 0;
  let answered = 0;
  let isDecided = false;
  let isCutOff = false;

  return new Promise((resolve) => {
    let chosen = null;
    const choose = (index) => {
      const item = shown[index];
      if (!item) return;
      if (item.reason) {
        note.textContent = item.reason;
        return;
      }
      chosen = item;
      leave();
    };
    const mark = (index) => {
      at = index;
      [...list.children].forEach((row, number) => row.setAttribute("aria-selected", String(number === at)));
      if (at < 0) field.removeAttribute("aria-activedescendant");
      else {
        field.setAttribute("aria-activedescendant", `${id}-${at}`);
        list.children[at].scrollIntoView({ block: "nearest" });
      }
      note.textContent = shown[at]?.reason ?? (shown.length ? "" : isCutOff ? CUT_OFF : empty);
    };
    const draw = (found) => {
      shown = found;
      let group = "";
      list.replaceChildren(
        ...found.map((item, index) => {
          const row = make("li", "pick-row", { id: `${id}-${index}`, role: "option", "aria-selected": "false" });
          if (item.reason) row.setAttribute("aria-disabled", "true");
          if (item.testid) row.dataset.pick = item.testid;
          const words = make("span", "pick-words");
          words.append(make("b", "", {}, item.title));
          if (item.description || item.reason) words.append(make("span", "quiet small", {}, item.reason || item.description));
          row.append(words);
          if (item.group && item.group !== group) row.append(make("span", "pick-group quiet small", {}, item.group));
          group = item.group ?? "";
          row.addEventListener("pointermove", () => at !== index && mark(index));
          row.addEventListener("click", () => choose(index));
          return row;
        }),
      );
      mark(found.findIndex((item) => !item.reason) >= 0 ? found.findIndex((item) => !item.reason) : found.length ? 0 : -1);
    };
    const look = async () => {
      if (!load) return draw(rank(items, field.value));
      const mine = (asked += 1);
      const found = await load(field.value).catch(() => null);
      if (mine !== asked) return;
      isCutOff = found === null;
      answered = mine;
      draw(found ?? []);
      if (isDecided) choose(at);
      isDecided = false;
    };

    field.addEventListener("input", look);
    field.addEventListener("keydown", (event) => {
      const way = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
      if (way && shown.length) {
        const next = at + way;
        mark(Math.abs(way) === 1 ? (next + shown.length) % shown.length : Math.min(shown.length - 1, Math.max(0, next)));
      } else if (event.key === "Enter") {
        // Who is quicker than the list gets what it will say is best.
        if (asked > answered) isDecided = true;
        else choose(at);
      }
      else return;
      event.preventDefault();
    });
    const leave = showPassing(dialog, () => resolve(chosen));
    field.focus();
    look();
  });
}

function make(tag, name, attributes = {}, text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
}
