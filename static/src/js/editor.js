// What only the editor's pages need; the canvas and the YAML view bring bundles of their own.
import { openSocket } from "../graph/socket.js";
import { token } from "./csrf.js";
import { editorInspector, editorTab, fieldForms, flush, say } from "./editor_inspector.js";
import { editorPanes } from "./editor_panes.js";
import { expressionFields } from "./expression_fields.js";
import { outline } from "./outline.js";
import { trialOverlay } from "./trial_overlay.js";

const main = document.getElementById("content");
document.documentElement.classList.add("scripted");
for (const element of document.querySelectorAll('[data-controller~="editor-panes"]')) editorPanes(element);
const panel = document.getElementById("inspector");
fieldForms(main);
expressionFields(main);
if (panel) editorInspector(panel);
else tab();
const graph = document.querySelector("mn-graph[data-overlay]");
if (graph) trialOverlay(graph);
const offered = document.getElementById("palette-entries");
document.getElementById("palette")?.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-add]");
  if (chosen) document.dispatchEvent(new CustomEvent("mn:add", { detail: JSON.parse(offered.textContent)[chosen.dataset.add] }));
});
const steps = document.getElementById("outline");
if (steps) outline(steps);
// The head's number is that of the draft's last change, whoever made it.
document.addEventListener("mn:applied", (event) => {
  const number = document.querySelector("[data-draft-number]");
  if (number && event.detail?.version) number.textContent = Math.max(Number(number.textContent), event.detail.version);
});
// The canvas says how its own changes fare.
document.addEventListener("mn:saving", (event) => say(event.detail.state, event.detail.words));
// Buttons of the head act on what is saved, so what was typed is saved first.
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("[data-testid=editor-head] a[href], .editor-tabs a[href]");
  if (!link || event.metaKey || event.ctrlKey || !main.querySelector("form.field[data-dirty], form.field[data-flying]")) return;
  event.preventDefault();
  await flush(main);
  location.assign(link.href);
});
window.addEventListener("beforeunload", () => {
  for (const form of main.querySelectorAll("form.field[data-dirty]")) window.htmx.trigger(form, "change");
});
// While nothing has the focus, as when the page has just come, the keys that it names on sight work all the same.
document.addEventListener("keydown", (event) => {
  if (event.target !== document.body || event.defaultPrevented || event.altKey || document.querySelector("dialog[open]")) return;
  const key = `${event.ctrlKey || event.metaKey ? "Ctrl " : ""}${event.key.toLowerCase()}`;
  const canvas = document.querySelector("mn-graph[data-mounted]");
  const commands = canvas?.checkVisibility() ? canvas.commands : null;
  const add = document.querySelector("[data-outline-add]");
  if (key === "/" && add) commands ? commands.run("palette") : add.click();
  else if (key === "?" && commands) commands.run("keys");
  else if (key === "Ctrl z") document.querySelector(`[data-testid=editor-head] [data-action=${event.shiftKey ? "redo" : "undo"}]`)?.click();
  else return;
  event.preventDefault();
});

// Beside the graph there is no canvas to hear the draft's socket and to undo.
function tab() {
  const head = document.querySelector("[data-testid=editor-head]");
  editorTab(main);
  const applied = (detail) => document.dispatchEvent(new CustomEvent("mn:applied", { detail }));
  let known = Number(head.dataset.draftVersion);
  document.addEventListener("mn:applied", (event) => {
    known = Math.max(known, Number(event.detail?.version ?? 0));
  });
  if (head.dataset.draft && !document.querySelector("mn-yaml")) {
    openSocket({
      draft: head.dataset.draft,
      after: () => known,
      hear: (message) => {
        if (message.type !== "ops" || message.version <= known) return;
        applied({ version: message.version, origin: "socket" });
      },
    });
  }
  head.addEventListener("click", async (event) => {
    const action = event.target.closest("[data-action]")?.dataset.action;
    if (action !== "undo" && action !== "redo") return;
    await flush(main);
    const query = head.dataset.private === "true" ? "?private=true" : "";
    const answer = await fetch(`/api/v1/blueprints/${encodeURIComponent(head.dataset.blueprint)}/draft/${action}${query}`, {
      method: "POST",
      headers: { "X-CSRFToken": token(), "Content-Type": "application/json" },
      body: "{}",
    }).catch(() => null);
    if (!answer) return say("refused", "the server cannot be reached just now; nothing is lost");
    const said = await answer.json();
    if (answer.ok) applied({ version: said.version, patch: said.patch, origin: action });
    else say("refused", said.detail ?? said.title);
  });
}
