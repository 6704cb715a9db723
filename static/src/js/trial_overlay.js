// The latest test of the draft on the canvas: states while it runs, then time and cost, and what has changed since.
const WHILE_RUNNING_MS = 1000;
const AFTER_AN_EDIT_MS = 600;

export function trialOverlay(graph) {
  const { overlay } = graph.dataset;
  const sign = document.getElementById("test-status");
  const wanted = new URLSearchParams(location.search).get("test") ?? "";
  let shown = new Set();
  let timer = 0;

  const later = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(fetchNow, ms);
  };

  async function fetchNow() {
    if (document.hidden) return;
    const address = new URL(overlay, location);
    if (wanted) address.searchParams.set("run", wanted);
    const answer = await fetch(address, { headers: { Accept: "application/json" } }).catch(() => null);
    if (!answer?.ok) return;
    const found = await answer.json();
    show(found);
    if (found.running) later(WHILE_RUNNING_MS);
  }

  function show(found) {
    const states = {};
    for (const path of shown) states[path] = { state: "", stale: false, pinned: false };
    for (const [path, told] of Object.entries(found.nodes)) {
      states[path] = { state: told.state ?? "", stale: told.stale ?? false, pinned: told.pinned ?? false };
      if (told.seconds != null) states[path].seconds = told.seconds;
      if (told.cost_usd != null) states[path].cost_usd = Number(told.cost_usd);
      // What a step took says more than "done", which its sign says already.
      if (told.state === "succeeded") states[path].words = "";
    }
    shown = new Set(Object.keys(found.nodes));
    graph.setStates?.(states); // Where the canvas is not built, the signs below say it.
    graph.dataset.test = found.status;
    if (!sign) return;
    sign.hidden = !found.run;
    sign.dataset.state = found.status;
    sign.textContent = found.run ? `Test: ${found.label || "a past run"} · ${found.status}${found.simulate ? ", simulated" : ""}` : "";
  }

  customElements.whenDefined("mn-graph").then(fetchNow);
  // A change may make a result stale.
  document.addEventListener("mn:applied", () => later(AFTER_AN_EDIT_MS));
  document.addEventListener("visibilitychange", () => document.hidden || later(0));
}
