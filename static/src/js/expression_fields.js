// Offers the names an expression may read, below its field, while one is being written.
const MOST = 40;
const WORD = /[A-Za-z_][A-Za-z0-9_.]*$/;
const kept = new Map();
let list = null;
let field = null;
let current = -1;

export function expressionFields(root) {
  root.addEventListener("input", (event) => {
    if (event.target.matches("[data-expression]")) offer(event.target);
  });
  root.addEventListener("keydown", (event) => {
    if (!event.target.matches("[data-expression]")) return;
    if (event.key === " " && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      offer(event.target, true);
    } else if (list) keys(event);
  });
  root.addEventListener("focusout", (event) => {
    if (event.target === field) close();
  });
  root.addEventListener("focusin", (event) => {
    const wanted = event.target;
    if (!wanted.matches?.("[data-expression]")) return;
    wanted.setAttribute("aria-autocomplete", "list");
    wanted.setAttribute("aria-expanded", "false");
    wanted.setAttribute("role", "combobox");
    names(wanted);
  });
  // The draft moves on, and with it what may be read.
  document.addEventListener("mn:applied", () => kept.clear());
}

async function names(wanted) {
  const address = wanted.closest("[data-names]")?.dataset.names;
  if (!address) return [];
  if (!kept.has(address)) {
    kept.set(
      address,
      fetch(address)
        .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(String(answer.status)))))
        .then((found) => found.names)
        .catch(() => {
          kept.delete(address);
          return [];
        }),
    );
  }
  return kept.get(address);
}

// Inside braces, or anywhere in an expression: the word before the caret; null where no name is being written.
// A bare field holds an expression until somebody writes braces in it.
export function wordAt(text, caret, kind) {
  const before = text.slice(0, caret);
  if (!isExpression(text, kind) && before.lastIndexOf("{{") <= before.lastIndexOf("}}")) return null;
  return WORD.exec(before)?.[0] ?? "";
}

const isExpression = (text, kind) => kind === "expression" || (kind === "bare" && !text.includes("{{"));

export function ranked(found, word) {
  const low = word.toLowerCase();
  const score = (name) => {
    const text = name.toLowerCase();
    if (text.startsWith(low)) return 0;
    if (text.split(".").some((part) => part.startsWith(low))) return 1;
    return text.includes(low) ? 2 : 3;
  };
  return found
    .map((one, index) => ({ one, index, score: score(one.name) }))
    .filter((scored) => scored.score < 3)
    .sort((a, b) => a.score - b.score || a.index - b.index)
    .slice(0, MOST)
    .map((scored) => scored.one);
}

/** The beginning of the name that is being written; null where none is. */
function written(wanted, asked) {
  const word = wordAt(wanted.value, wanted.selectionStart, wanted.dataset.expression);
  return word || asked || (word === "" && wanted.value.slice(0, wanted.selectionStart).endsWith("{{ ")) ? word : null;
}

async function offer(wanted, asked = false) {
  if (written(wanted, asked) === null) return close();
  const all = await names(wanted);
  if (document.activeElement !== wanted) return;
  // Somebody may have written on meanwhile.
  const word = written(wanted, asked);
  if (word === null) return close();
  const found = ranked(all, word);
  if (!found.length || (found.length === 1 && found[0].name === word)) return close();
  draw(wanted, found);
}

function draw(wanted, found) {
  close();
  field = wanted;
  list = document.createElement("ul");
  list.className = "completions";
  list.id = `${wanted.id}-names`;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Values to use");
  found.forEach((one, index) => {
    const option = document.createElement("li");
    option.setAttribute("role", "option");
    option.id = `${list.id}-${index}`;
    option.dataset.name = one.name;
    const code = document.createElement("code");
    code.textContent = one.name;
    const words = document.createElement("span");
    words.className = "quiet small";
    words.textContent = [one.type, one.from].filter(Boolean).join(" · ");
    option.append(code, words);
    // Before the field loses the focus.
    option.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      take(one.name);
    });
    list.append(option);
  });
  wanted.closest(".field").append(list);
  wanted.setAttribute("aria-controls", list.id);
  wanted.setAttribute("aria-expanded", "true");
  mark(0);
}

function mark(index) {
  const options = [...list.children];
  current = (index + options.length) % options.length;
  options.forEach((option, at) => option.setAttribute("aria-selected", String(at === current)));
  options[current].scrollIntoView({ block: "nearest" });
  field.setAttribute("aria-activedescendant", options[current].id);
}

function keys(event) {
  const moves = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in moves) {
    event.preventDefault();
    mark(current + moves[event.key]);
  } else if (event.key === "Enter" || event.key === "Tab") {
    event.preventDefault();
    take(list.children[current].dataset.name);
  } else if (event.key === "Escape") {
    event.preventDefault();
    event.stopPropagation();
    close();
  }
}

function take(name) {
  const caret = field.selectionStart;
  const word = wordAt(field.value, caret, field.dataset.expression) ?? "";
  const wanted = field;
  close();
  wanted.setRangeText(name, caret - word.length, caret, "end");
  const after = wanted.value.slice(wanted.selectionStart);
  if (!isExpression(wanted.value, wanted.dataset.expression) && !/^\s*}}/.test(after) && !after.includes("}}")) {
    const end = wanted.selectionStart;
    wanted.setRangeText(" }}", end, end, "end");
  }
  wanted.dispatchEvent(new Event("input", { bubbles: true }));
  close();
}

function close() {
  list?.remove();
  list = null;
  current = -1;
  field?.setAttribute("aria-expanded", "false");
  field?.removeAttribute("aria-activedescendant");
  field?.removeAttribute("aria-controls");
  field = null;
}
