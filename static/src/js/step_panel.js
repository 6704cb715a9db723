// The panel of the selected step follows its row: when the row's mark changes, the panel is asked for again. The
// timeline and the picture always mark the step the panel shows, whoever drew them last.
import { followStep } from "./follow_step.js";

const WIDE = "(min-width: 72rem)";
const begun = new WeakMap();
let watching = false;
let marked = "";
let choosing = null;
let chosenAt = 0;

export function stepPanel() {
  markCurrent();
  if (watching) return;
  watching = true;
  document.addEventListener("htmx:wsAfterMessage", () => {
    markCurrent();
    refresh();
  });
  // What somebody chose stands: no answer to a question that was asked before may take its place.
  document.addEventListener("htmx:beforeRequest", ({ detail }) => {
    if (detail.target?.id !== "step-panel") return;
    begun.set(detail.xhr, performance.now());
    if (detail.elt === document.body) return;
    choosing = detail.xhr;
    chosenAt = performance.now();
  });
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (detail.target?.id === "step-panel" && detail.xhr !== choosing && begun.get(detail.xhr) <= chosenAt) detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterRequest", ({ detail }) => {
    if (detail.xhr === choosing) choosing = null;
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id !== "step-panel") return;
    markCurrent();
    const chosen = event.detail.elt?.closest?.(".timeline-row");
    if (chosen && !window.matchMedia(WIDE).matches) event.target.scrollIntoView();
  });
}

function panel() {
  return document.getElementById("step-panel");
}

function markCurrent() {
  const path = panel()?.dataset.stepPath ?? "";
  for (const row of document.querySelectorAll(".timeline-row")) {
    if (row.dataset.stepPath === path) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
  for (const node of document.querySelectorAll("#run-picture .mn-node")) {
    node.classList.toggle("mn-selected", node.dataset.stepPath === path);
  }
  const frame = document.getElementById("run-picture");
  if (frame && path !== marked) followStep(frame);
  marked = path;
}

function refresh() {
  const current = panel();
  if (!current || choosing || current.contains(document.activeElement)) return;
  const row = document.querySelector(`.timeline-row[data-step-path="${CSS.escape(current.dataset.stepPath ?? "")}"]`);
  const chosen = current.dataset.chosen === "yes";
  const wanted = document.querySelector(".timeline[data-focus-path]")?.dataset.focusPath ?? "";
  const stale = row && row.dataset.mark !== current.dataset.mark;
  if (!stale && (chosen || !wanted || wanted === current.dataset.stepPath)) return;
  const address = new URL(location.href);
  address.hash = "";
  if (!chosen) address.searchParams.delete("step");
  window.htmx.ajax("GET", address.pathname + address.search, { target: "#step-panel", swap: "outerHTML" });
}
