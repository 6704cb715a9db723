// A test of the draft on the canvas: states while it runs, then time and cost, and what has changed since. The latest one,
// or the one somebody chose. While it runs its socket says that there is something new; without one it is asked for.
import { runNews } from "./run_news.js";

const SOON_MS = 120;
const UNTOLD_MS = 1000;
const TOLD_MS = 15000;
const AFTER_AN_EDIT_MS = 600;
const NONE = "none";
const EMPTY = { run: null, label: "", status: "", simulate: false, running: false, seq: 0, nodes: {} };

export function trialOverlay(graph) {
  const { overlay } = graph.dataset;
  const sign = document.getElementById("test-status");
  const choice = document.getElementById("test-choice");
  let wanted = new URLSearchParams(location.search).get("test") ?? "";
  let shown = new Set();
  let now = EMPTY;
  let news = null;
  let timer = 0;
  let due = 0;
  let isAsking = false;
  let isBehind = false;

  /** At the latest then; what is to come sooner stays. */
  function within(ms) {
    const at = performance.now() + ms;
    if (timer && due <= at) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(look, ms);
  }

  async function look() {
    clearTimeout(timer);
    timer = 0;
    if (document.hidden || wanted === NONE) return;
    if (isAsking) {
      isBehind = true;
      return;
    }
    isAsking = true;
    isBehind = false;
    const asked = wanted;
    const found = await fetchOne(asked);
    isAsking = false;
    if (found && asked === wanted) show(found);
    if (isBehind || asked !== wanted) within(SOON_MS);
    else if (now.running) within(found && news?.isOpen() ? TOLD_MS : UNTOLD_MS);
  }

  async function fetchOne(run) {
    const address = new URL(overlay, location);
    if (run) address.searchParams.set("run", run);
    const answer = await fetch(address, { headers: { Accept: "application/json" } }).catch(() => null);
    return answer?.ok ? answer.json().catch(() => null) : null;
  }

  function follow(found) {
    if (news && (!found.running || news.run !== found.run)) {
      news.close();
      news = null;
    }
    if (found.running && !news) news = runNews({ run: found.run, after: found.seq, hear: () => within(SOON_MS) });
  }

  function show(found) {
    now = found;
    follow(found);
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
    offer(found);
  }

  /** A test that was started since the page was made can be chosen too. */
  function offer(found) {
    if (!choice) return;
    if (found.run && ![...choice.options].some((option) => option.value === found.run)) {
      choice.options[0].after(new Option(found.label || "a past run", found.run));
    }
    choice.hidden = choice.options.length < 3;
    choice.value = wanted;
  }

  choice?.addEventListener("change", () => {
    wanted = choice.value;
    const here = new URL(location);
    if (wanted) here.searchParams.set("test", wanted);
    else here.searchParams.delete("test");
    history.replaceState(history.state, "", here);
    if (wanted === NONE) show(EMPTY);
    else within(0);
  });
  customElements.whenDefined("mn-graph").then(() => (wanted === NONE ? show(EMPTY) : look()));
  document.addEventListener("mn:test", () => within(SOON_MS));
  // A change may make a result stale.
  document.addEventListener("mn:applied", () => within(AFTER_AN_EDIT_MS));
  document.addEventListener("visibilitychange", () => document.hidden || within(0));
  addEventListener("pagehide", () => news?.close());
}
