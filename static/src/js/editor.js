// What only the editor's pages need; the canvas and the YAML view bring bundles of their own.
import { editorInspector, fieldForms, flush, say } from "./editor_inspector.js";
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
const graph = document.querySelector("mn-graph[data-overlay]");
if (graph) trialOverlay(graph);
const steps = document.getElementById("outline");
if (steps) outline(steps);
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
