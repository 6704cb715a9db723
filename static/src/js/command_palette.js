// Ctrl-K on every page: what can be done here, the steps of the graph on show, blueprints, and the other pages.

let isOpen = false;

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
  if (document.querySelector("dialog[open]")) return;
  event.preventDefault();
  open();
});
document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-action=command-palette]")) open();
});

async function open() {
  if (isOpen) return;
  isOpen = true;
  try {
    const { pick } = await import("./pick.js");
    const items = [...actions(), ...steps(), ...pages()];
    const chosen = await pick({
      title: "Go to or do",
      placeholder: "An action, a step, a blueprint, a page",
      load: withBlueprints(items),
    });
    chosen?.act();
  } finally {
    isOpen = false;
  }
}

function actions() {
  const found = document.querySelectorAll("main .actions :is(a, button)[data-action], main .actions a.button, main .actions button");
  return [...found]
    .filter((element) => !element.disabled && element.getClientRects().length)
    .map((element) => ({ title: words(element), group: "Do", act: () => element.click() }))
    .filter((item) => item.title);
}

function steps() {
  const graph = document.querySelector("mn-graph");
  if (graph?.items) return graph.items().map((item) => ({ ...item, group: "Steps" }));
  const rows = document.querySelectorAll(".timeline-row[data-step-path]");
  return [...rows].map((row) => ({ title: words(row.querySelector("a") ?? row), group: "Steps", act: () => (row.querySelector("a") ?? row).click() }));
}

function pages() {
  return [...document.querySelectorAll(".rail-link")].map((link) => ({
    title: words(link.querySelector("span") ?? link), group: "Pages", act: () => location.assign(link.href),
  }));
}

/** Blueprints are asked for once, when the palette opens. */
function withBlueprints(items) {
  const asked = fetch("/api/v1/blueprints?limit=100", { headers: { Accept: "application/json" } })
    .then((answer) => (answer.ok ? answer.json() : { items: [] }))
    .then((answer) =>
      (answer.items ?? []).map((one) => ({
        title: one.title || one.name, words: one.name, group: "Blueprints",
        act: () => location.assign(`/blueprints/${encodeURIComponent(one.name)}`),
      })),
    )
    .catch(() => []);
  let known = null;
  asked.then((found) => (known = found));
  return async (query) => {
    const { rank } = await import("../graph/core/rank.js");
    if (query) known ??= await asked;
    return rank([...items, ...(known ?? [])], query);
  };
}

const words = (element) => (element.getAttribute("aria-label") ?? element.textContent).replace(/\s+/g, " ").trim();
