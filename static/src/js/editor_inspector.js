// The form of what is selected. It follows the selection, waits for fields that are still being saved before it
// goes away, and takes over what others change without touching the field somebody is typing in.
import { notStored } from "./storage_words.js";

const PATIENCE = 2500;
const COALESCE = 150;
const AGAIN_MS = 3000;
const LONGEST_MS = 15000;
const AT_WORK = "form[data-dirty], form[data-flying]";
// What no form shows.
const PICTURE_ONLY = new Set(["move_nodes", "set_layout"]);

export function editorInspector(panel) {
  const head = document.querySelector("[data-testid=editor-head]");
  const name = head.dataset.blueprint;
  let selected = new URLSearchParams(location.search);
  let turn = 0;
  let leaving = null;
  // What the address names is what is selected, until the canvas stands and has heard of it.
  let isNamed = Boolean(chosen(selected));
  whenMounted(document.getElementById("graph"), () => {
    if (!isNamed) return;
    isNamed = false;
    const nodes = selected.getAll("node");
    if (nodes.length) document.dispatchEvent(new CustomEvent("mn:select", { detail: { nodes } }));
  });

  const address = () => {
    const query = new URLSearchParams();
    for (const key of ["node", "edge"]) for (const value of selected.getAll(key)) query.append(key, value);
    if (new URLSearchParams(location.search).get("private") === "1") query.set("private", "1");
    return `/blueprints/${encodeURIComponent(name)}/edit/inspector?${query}`;
  };

  async function show() {
    const mine = ++turn;
    await flush(panel);
    if (mine !== turn) return;
    await window.htmx.ajax("GET", address(), { target: panel, swap: "innerHTML" });
  }

  keepUnsaved(panel);
  document.addEventListener("mn:select", (event) => {
    const wanted = new URLSearchParams();
    for (const node of event.detail?.nodes ?? []) wanted.append("node", node);
    const edge = event.detail?.edge;
    if (!wanted.size && edge) wanted.append("edge", edge.id ?? edge);
    if (wanted.toString() === chosen(selected) || (isNamed && !wanted.size)) return;
    isNamed = false;
    const go = () => {
      selected = wanted;
      show();
    };
    leaving?.abort();
    // Where somebody else takes a step off the picture, whoever is typing in its form goes on.
    const isTyping = !wanted.size && panel.querySelector("form.field:focus-within");
    if (isTyping) leaving = whenLeft(panel, go);
    else go();
  });

  const follow = following(() => takeOver(panel, address), () => !document.hidden && panel.checkVisibility());
  document.addEventListener("mn:applied", (event) => {
    const { origin, kinds } = event.detail ?? {};
    if (origin === "form" || (kinds?.length && kinds.every((kind) => PICTURE_ONLY.has(kind)))) return;
    follow();
  });
  document.addEventListener("visibilitychange", () => follow.soon());
  new ResizeObserver(() => follow.soon()).observe(panel);
}

// Does it once the keyboard has gone elsewhere, unless that is called off.
function whenLeft(place, act) {
  const off = new AbortController();
  place.addEventListener("focusout", ({ relatedTarget }) => {
    if (place.contains(relatedTarget)) return;
    off.abort();
    act();
  }, { signal: off.signal });
  return off;
}

// What could not be saved waits out of sight while another form is shown, where it is sent again, and is back with its own.
function keepUnsaved(panel) {
  const waiting = document.createElement("div");
  waiting.hidden = true;
  panel.after(waiting);
  const sameAs = (form) => (other) => other.dataset.field === form.dataset.field && other.getAttribute("hx-patch") === form.getAttribute("hx-patch");
  panel.addEventListener("htmx:beforeSwap", (event) => {
    if (event.target === panel && event.detail.shouldSwap) waiting.append(...panel.querySelectorAll(AT_WORK));
  });
  panel.addEventListener("htmx:afterSwap", (event) => {
    if (event.target !== panel) return;
    const fields = [...panel.querySelectorAll("form.field")];
    for (const form of [...waiting.children]) {
      const field = fields.find(sameAs(form));
      if (!field) continue;
      field.replaceWith(form);
      if (form.dataset.dirty) window.htmx.trigger(form, "change");
    }
  });
  // What the server answers besides is shown when its form is there again.
  waiting.addEventListener("htmx:beforeSwap", (event) => (event.detail.shouldSwap = false));
  waiting.addEventListener("htmx:afterRequest", ({ target, detail }) => {
    if (detail.successful && !detail.xhr.getResponseHeader("HX-Trigger")) target.dataset.dirty = "yes";
  });
  waiting.addEventListener("mn:settled", ({ target }) => {
    if (!target.matches(AT_WORK)) target.remove();
  });
}

// Does something after a change: once for changes that follow each other at once, never twice at a time, once more
// for what happened meanwhile, and only when somebody can see it.
function following(act, isSeen) {
  let isDue = false;
  let isAtIt = false;
  let timer = 0;
  let tries = 0;
  function soon(after = COALESCE) {
    if (!isDue || isAtIt || timer || !isSeen()) return;
    timer = setTimeout(async () => {
      timer = 0;
      isDue = false;
      isAtIt = true;
      await act().then(() => (tries = 0), () => {
        isDue = true;
        tries += 1;
      });
      isAtIt = false;
      soon(tries ? Math.min(AGAIN_MS * 2 ** (tries - 1), LONGEST_MS) : COALESCE);
    }, after);
  }
  addEventListener("online", () => {
    clearTimeout(timer);
    timer = 0;
    soon();
  });
  const follow = () => {
    isDue = true;
    soon();
  };
  return Object.assign(follow, { soon });
}

function whenMounted(graph, act) {
  if (!graph) return;
  const watch = new MutationObserver(() => {
    if (!("mounted" in graph.dataset)) return;
    watch.disconnect();
    act();
  });
  watch.observe(graph, { attributes: true, attributeFilter: ["data-mounted"] });
}

function chosen(query) {
  const only = new URLSearchParams();
  for (const key of ["node", "edge"]) for (const value of query.getAll(key)) only.append(key, value);
  return only.toString();
}

// What each place shows, by the server's name for it: where the form is as it was, the server says only that. Whatever
// somebody does there may show something else, so then it is fetched.
const shown = new WeakMap();
for (const kind of ["input", "click", "htmx:beforeRequest", "htmx:afterSwap"]) {
  document.addEventListener(kind, (event) => {
    for (let at = event.target; at; at = at.parentElement) shown.delete(at);
  });
}

// How often something was saved from a place or put there, and the newest question about it: an answer to a question
// from before either says how it was.
const turns = new WeakMap();
const newest = new WeakMap();
for (const kind of ["htmx:afterRequest", "htmx:afterSwap"]) {
  document.addEventListener(kind, (event) => {
    for (let at = event.target; at; at = at.parentElement) turns.set(at, (turns.get(at) ?? 0) + 1);
  });
}

// Fetches a form anew and replaces every field that says something else, except where somebody is at work.
export async function takeOver(place, addressOf) {
  const address = addressOf();
  const last = shown.get(place);
  const known = last?.address === address ? { "If-None-Match": last.tag } : {};
  const mine = {};
  newest.set(place, mine);
  const turn = turns.get(place);
  const answer = await fetch(address, { headers: { "HX-Request": "true", ...known } });
  if (!answer.ok) return;
  const text = await answer.text();
  if (!place.isConnected || newest.get(place) !== mine) return;
  if (turns.get(place) !== turn) return takeOver(place, addressOf);
  shown.delete(place);
  const fresh = new DOMParser().parseFromString(text, "text/html").querySelector(".subject-form");
  const old = place.matches(".subject-form") ? place : place.querySelector(".subject-form");
  if (!fresh || !old) return;
  const shapeOf = (root) => [...root.querySelectorAll("[data-field]")].map((e) => e.dataset.field).join("\n");
  if (old.id !== fresh.id || shapeOf(old) !== shapeOf(fresh)) {
    const busy = old.querySelector(AT_WORK) ?? old.querySelector("form:focus-within");
    if (busy) {
      const again = () => setTimeout(() => takeOver(place, addressOf), COALESCE);
      busy.addEventListener(busy.matches("[data-flying]") ? "mn:settled" : "focusout", again, { once: true });
      return;
    }
    const open = openFolds(old);
    old.replaceWith(fresh);
    reopen(fresh, open);
    window.htmx.process(fresh);
    return;
  }
  let isWhole = true;
  for (const form of fresh.querySelectorAll("form.field[data-field]")) {
    const before = old.querySelector(`form.field[data-field="${CSS.escape(form.dataset.field)}"]`);
    if (!before || before.innerHTML === form.innerHTML) continue;
    if (before.matches(`${AT_WORK}, :focus-within`)) {
      isWhole = false;
      continue;
    }
    before.replaceWith(form);
    window.htmx.process(form);
  }
  for (const part of fresh.querySelectorAll(".subject-problems, .around")) {
    const before = !part.closest("form.field") && old.querySelector(`#${CSS.escape(part.id)}`);
    if (before && before.innerHTML !== part.innerHTML) before.replaceWith(part);
  }
  const heading = fresh.querySelector(".subject-head");
  if (heading) old.querySelector(".subject-head")?.replaceWith(heading);
  const tag = answer.headers.get("ETag");
  if (isWhole && tag) shown.set(place, { address, tag });
}

// On the tabs every form stands by itself: what one changes, or somebody else, the others take over.
export function editorTab(main) {
  let due = 0;
  const senders = new Set();
  document.addEventListener("mn:applied", (event) => {
    const own = event.detail?.origin === "form" ? event.target.closest?.(".subject-form") : null;
    if (own) senders.add(own.id);
    else senders.clear(); // Somebody else went on since; their own forms do not show that.
    clearTimeout(due);
    due = setTimeout(() => {
      for (const form of main.querySelectorAll(".subject-form[data-address]")) {
        if (!senders.has(form.id)) takeOver(form, () => form.dataset.address);
      }
      senders.clear();
    }, COALESCE);
  });
}

function openFolds(root) {
  return [...root.querySelectorAll("details[id][open]")].map((fold) => fold.id);
}

function reopen(root, ids) {
  for (const id of ids) root.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
}

// What every form of the editor needs, on the graph and on the tabs alike.
export function fieldForms(root) {
  let folds = [];
  const waiting = new WeakMap();
  root.addEventListener("input", (event) => {
    const form = event.target.closest("form.field");
    if (!form) return;
    form.dataset.dirty = "yes";
    say("saving");
  });
  root.addEventListener("htmx:beforeRequest", (event) => {
    const form = event.detail.elt;
    if (form.matches?.("form.field")) {
      form.dataset.flying = String(Number(form.dataset.flying ?? 0) + 1);
      delete form.dataset.dirty;
      // What has failed is told until it is known to be otherwise: words that come and go move the page under a click.
      if (document.getElementById("draft-status")?.dataset.state !== "failed") say("saving");
    }
  });
  // A request that waited in the queue is made with what stands in the field by then.
  root.addEventListener("htmx:afterRequest", (event) => {
    const form = event.detail.elt;
    if (!form.matches?.("form.field")) return;
    const left = Number(form.dataset.flying ?? 1) - 1;
    if (left > 0) form.dataset.flying = String(left);
    else delete form.dataset.flying;
    if (!event.detail.successful) {
      form.dataset.dirty = "yes";
      const reason = notStored(event.detail.xhr?.getResponseHeader("MN-Problem"));
      if (reason) say("failed", reason);
      else if (event.detail.xhr?.status === 404) say("failed", "not saved: somebody has removed this step");
      else say(event.detail.xhr?.status ? "failed" : "offline");
      if (reason || !event.detail.xhr?.status) later(form);
    } else if (!root.querySelector("form.field[data-dirty], form.field[data-flying]")) say("saved");
    form.dispatchEvent(new CustomEvent("mn:settled", { bubbles: true }));
  });
  root.addEventListener("htmx:beforeSwap", (event) => {
    folds = openFolds(event.detail.target.parentElement ?? root);
  });
  root.addEventListener("htmx:afterSettle", () => {
    reopen(root, folds);
    focusFresh(root);
  });
  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-conflict]");
    if (button) settle(button);
  });
  // What the server could not store is sent again until it can.
  function later(form) {
    clearTimeout(waiting.get(form));
    waiting.set(form, setTimeout(() => form.isConnected && form.dataset.dirty && window.htmx.trigger(form, "change"), AGAIN_MS));
  }
  // What could not be sent is sent when there is a network again.
  window.addEventListener("online", () => {
    for (const form of root.querySelectorAll("form.field[data-dirty]")) window.htmx.trigger(form, "change");
  });
}

function focusFresh(root) {
  const form = root.querySelector("[data-focus]");
  if (!form) return;
  const field = document.getElementById(form.dataset.focus);
  delete form.dataset.focus;
  for (let fold = field?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  field?.focus();
  field?.select?.();
}

function settle(button) {
  const form = button.closest("form.field");
  if (button.dataset.conflict === "theirs") {
    const around = form.querySelector(".around");
    around.textContent = "";
    delete form.dataset.dirty;
    form.querySelector("[name=value]")?.blur();
    document.dispatchEvent(new CustomEvent("mn:applied", { detail: { origin: "conflict" } }));
    return;
  }
  // Now theirs has been seen; what stands in the field is meant to take its place.
  form.querySelector("[name=seen]").value = button.dataset.seen;
  window.htmx.trigger(form, "change");
}

// Resolves when nothing that was typed is unsaved any more, or after a while.
export function flush(root) {
  for (const form of root.querySelectorAll("form.field[data-dirty]")) window.htmx.trigger(form, "change");
  const waiting = () => root.querySelector("form.field[data-flying]");
  if (!waiting()) return Promise.resolve();
  return new Promise((done) => {
    const end = () => {
      root.removeEventListener("mn:settled", check);
      clearTimeout(limit);
      done();
    };
    const check = () => waiting() || end();
    const limit = setTimeout(end, PATIENCE);
    root.addEventListener("mn:settled", check);
  });
}

const WORDS = { saving: "saving…", saved: "saved", offline: "offline, kept here", failed: "not saved" };

export function say(state, words = WORDS[state]) {
  const sign = document.getElementById("draft-status");
  const said = sign?.querySelector("[data-draft-said]");
  if (!said || (sign.dataset.state === state && said.textContent === words)) return;
  sign.dataset.state = state;
  said.textContent = words;
}
