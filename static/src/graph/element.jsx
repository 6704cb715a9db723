// <mn-graph>: the one picture of a graph that can be touched. The server's SVG stands inside it until it mounts.
//
//   <mn-graph mode="edit" data-blueprint="NAME" data-draft="ID" data-private="false" data-view="draft-view">…svg…</mn-graph>
//   {{ view|json_script:"draft-view" }}
//
// mode      edit; read: the same without changes; run: states of a run; diff: what was added, removed, changed
// data-view id of a json_script with the view model; without one, data-src is asked, else the draft itself
// data-draft the draft's id: the socket is /ws/drafts/{id}
// data-me   id of the person looking, so that presence shows others only
// Says      data-version, data-idle ("true" when nothing is under way), data-mounted; the events mn:select {nodes, edge},
//           mn:applied {version, patch} and mn:open {node}, all of them bubbling.
// Hears     mn:select and mn:applied sent by others on the page, mn:add {template} from a palette, mn:comments when the
//           page has other comments, and clicks on [data-action=undo|redo|tidy].
// Fills     #draft-status, #presence.
import "@xyflow/react/dist/style.css";
import "./graph.css";
import { createRoot } from "react-dom/client";
import { Canvas } from "./adapter.jsx";
import { makeApi, pageComments } from "./api.js";
import { makeCommands } from "./commands.js";
import { makeAnnouncer } from "./core/announce.js";
import { keyFor } from "./core/keys.js";
import { nothing, only } from "./core/selection.js";
import { first } from "./core/walk.js";
import { othersHere } from "./presence.js";
import { makeSession } from "./session.js";
import { fillShelf } from "./shelf.js";
import { openSocket } from "./socket.js";
import { makeStore } from "./store.js";
import { makeUnsettled } from "./unsettled.js";

const ASKING = new Set(["connect", "add-after", "insert", "palette", "edges"]);
const SAID_FOR_MS = 6000;
const HINTS = {
  edit: "Arrow keys follow the edges, Enter opens the form, A adds a step, C connects, question mark lists all keys.",
  read: "Arrow keys follow the edges, Enter opens the form, question mark lists all keys.",
  run: "Arrow keys follow the edges, Enter shows the step, question mark lists all keys.",
  diff: "Arrow keys follow the edges, question mark lists all keys.",
};

class Graph extends HTMLElement {
  connectedCallback() {
    this.dataset.idle = "false";
    this.gone = new AbortController();
    // A pane that is not shown has no size; the picture waits until it has one.
    this.sight = new ResizeObserver(([entry]) => {
      if (!entry.contentRect.width || !entry.contentRect.height) return;
      this.sight.disconnect();
      this.start().catch((error) => this.failed(error));
    });
    this.sight.observe(this);
  }

  disconnectedCallback() {
    this.sight.disconnect();
    this.gone.abort();
    this.socket?.close();
    this.session?.close();
    this.root?.unmount();
    this.unsettled?.element.remove();
    this.root = this.store = this.session = this.socket = null;
  }

  /** Until then, and where it cannot be drawn, the outline does what the page's buttons say. */
  get isDrawn() {
    return "mounted" in this.dataset;
  }

  get mode() {
    return this.getAttribute("mode") ?? "read";
  }

  async start() {
    performance.mark("mn-begun");
    const { blueprint, draft, me } = this.dataset;
    this.api = makeApi({ name: blueprint ?? "", isPrivate: this.dataset.private === "true" });
    const view = await this.firstView();
    if (this.gone.signal.aborted) return;
    const readonly = this.mode !== "edit";
    this.store = makeStore(view);
    this.store.setComments(pageComments());
    this.announcer = makeAnnouncer({ say: (words) => this.speak(words), at: () => performance.now(), later: (act, ms) => setTimeout(act, ms) });
    this.unsettled = makeUnsettled({ settle: (id, isKept) => this.session.settle(id, isKept), left: () => this.canvas.focus?.(this.store.selection.current) });
    this.session = makeSession({
      store: this.store, api: this.api, keepAs: `mn-draft-${draft ?? blueprint}-${this.dataset.private ?? ""}`, say: (words, how) => this.say(words, how),
      applied: (change) => this.send("mn:applied", change), status: (state) => this.status(state),
      undecided: (list) => this.unsettled.show(list),
    });
    this.canvas = {};
    const canvas = new Proxy({}, { get: (_, name) => (...given) => this.canvas[name]?.(...given) });
    this.commands = makeCommands({ store: this.store, session: this.session, api: this.api, canvas, say: (words, how) => this.say(words, how), open: (what) => this.open(what), readonly });
    this.listen();
    this.draw(readonly);
    if (draft && !readonly) {
      this.socket = openSocket({ draft, after: () => this.store.server.version, hear: (message) => this.heard(message, me) });
    }
    this.session.report();
    if (this.early) this.setStates(this.early);
  }

  async firstView() {
    const own = this.dataset.view && document.getElementById(this.dataset.view);
    if (own) return JSON.parse(own.textContent);
    if (!this.dataset.src) return this.api.view();
    const answer = await fetch(this.dataset.src, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`The picture could not be fetched: the server answered ${answer.status}.`);
    return answer.json();
  }

  /** The server's picture stays when ours cannot be drawn. */
  failed(error) {
    console.error(error);
    this.dataset.failed = "true";
    this.dataset.idle = "true";
  }

  draw(readonly) {
    const still = [...this.children];
    const place = document.createElement("div");
    place.className = "mn-canvas";
    this.voice = document.createElement("p");
    this.voice.className = "visually-hidden";
    this.voice.setAttribute("role", "status");
    this.voice.dataset.testid = "graph-voice";
    this.toast = document.createElement("p");
    this.toast.className = "mn-toast";
    this.toast.hidden = true;
    this.toast.dataset.testid = "graph-toast";
    const hint = document.createElement("p");
    hint.id = `${this.id || "graph"}-hint`;
    hint.hidden = true;
    hint.textContent = HINTS[this.mode];
    this.store.select({ ...nothing, current: first(this.store.view) });
    this.root = createRoot(place, { onUncaughtError: (error) => this.failed(error) });
    this.root.render(
      <Canvas
        store={this.store} readonly={readonly} mode={this.mode} actions={this.actions(readonly)} describedBy={hint.id}
        size={{ width: this.clientWidth, height: this.clientHeight }}
        onReady={(canvas) => {
          this.canvas = canvas;
          still.forEach((child) => child.remove());
          this.dataset.mounted = "true";
          requestAnimationFrame(() => setTimeout(() => performance.measure("mn-drawn", "mn-begun")));
          this.send("mn:mounted", {});
        }}
      />,
    );
    this.append(place, this.invitation(readonly), hint, this.toast, this.voice, this.tools(readonly));
    // Beside the panes, because on a phone the picture may be out of sight when there is something to decide.
    const pane = this.closest(".editor-canvas");
    if (pane) pane.after(this.unsettled.element);
    else this.append(this.unsettled.element);
    if (!readonly) this.shelve();
  }

  /** What stands in an empty picture. */
  invitation(readonly) {
    const place = document.createElement("div");
    place.className = "mn-empty";
    place.dataset.testid = "graph-empty";
    const words = document.createElement("p");
    words.textContent = readonly ? "There is no step yet." : "There is no step yet. What should happen first?";
    place.append(words);
    if (!readonly) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button";
      button.textContent = "Add the first step ( / )";
      button.addEventListener("click", () => this.commands.run("palette"));
      place.append(button);
    }
    const show = () => (place.hidden = Object.keys(this.store.view.nodes).length > 0);
    this.store.subscribe("view", show);
    show();
    return place;
  }

  async shelve() {
    const place = document.getElementById("palette");
    if (!place) return;
    const answer = await this.api.palette("", "").catch(() => null);
    if (!answer || this.gone.signal.aborted) return; // What the page brought stays.
    const usual = ["agent", "tool", "transform", "extract", "code", "approval", "router", "check", "aggregator", "timer", "sensor", "map", "loop", "subflow"];
    const entries = answer.items.toSorted((a, b) => usual.indexOf(a.kind) - usual.indexOf(b.kind));
    fillShelf(place, entries, { search: () => this.commands.run("palette"), put: (entry) => this.putAfter(entry) });
  }

  /** Add a step after the one the keyboard is on, by its main way; alone where there is none. */
  putAfter(entry) {
    const path = this.store.selection.paths[0];
    const port = this.store.view.nodes[path]?.ports?.out?.[0]?.name;
    return this.commands.put(entry, path && port ? { from: { path, port }, scope: this.store.view.nodes[path].scope } : {});
  }

  /** Buttons for those who point: the keys beside them are on `?`. */
  tools(readonly) {
    const bar = document.createElement("div");
    bar.className = "mn-tools";
    const buttons = [
      ...(readonly ? [] : [["palette", "+ Add a step", "Add a step (/)"]]),
      ["fit", "Fit", "Show everything (Z)"],
      ["zoom-out", "−", "Farther (−)"],
      ["zoom-in", "+", "Nearer (+)"],
      ["keys", "?", "All keys (?)"],
    ];
    for (const [command, words, title] of buttons) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button";
      button.textContent = words;
      button.title = title;
      if (words.length < 2) button.setAttribute("aria-label", title.replace(/ \(.*/, ""));
      button.dataset.command = command;
      button.addEventListener("click", () => this.commands.run(command));
      bar.append(button);
    }
    return bar;
  }

  actions(readonly) {
    const { store, commands } = this;
    return {
      readonly,
      run: (name, path) => (name === "collapse" ? commands.collapse(path) : commands.run(name)),
      add: (where) => commands.add(where),
      connect: (from, to, port) => commands.connect(from, to, port),
      reconnect: (edge, ends) => commands.reconnect(edge, ends),
      place: (positions) => commands.place(positions),
      note: (id) => commands.note(id),
      moveNote: (note, { x, y }) => this.session.do([{ kind: "set_layout", path: ["canvas", "notes", note.id], new: { text: note.text, w: note.w, h: note.h, x, y } }]),
      targets: async (from) => {
        const answer = await this.api.connect(from).catch(() => []);
        const list = Array.isArray(answer) ? answer : (answer.targets ?? []);
        return new Map(list.map((target) => [target.node, target]));
      },
      focused: (path) => {
        // Tab leads to a step wherever the picture has been moved to; one that is clicked stays under the pointer.
        this.canvas.reveal?.(path, { ifGone: true });
        if (store.selection.current !== path) store.select({ ...store.selection, current: path });
      },
      clicked: (path) => {
        if (store.selection.current !== path) store.select({ ...store.selection, current: path });
        this.canvas.focus?.(path);
      },
      open: (path) => this.open({ node: path }),
      left: () => this.canvas.focus?.(""),
      entered: () => this.canvas.focus?.(store.selection.current || first(store.view)),
      key: (event) => {
        if (event.target.closest("input, textarea, select, [contenteditable]")) return;
        if (event.target.closest(".mn-fold, .mn-note-edit") && ["Enter", " "].includes(event.key)) return;
        const entry = keyFor(event, { readonly });
        if (!entry || entry.passes) return;
        // Text that somebody has marked is copied by the browser.
        if (entry.command === "copy" && String(getSelection())) return;
        event.preventDefault();
        event.stopPropagation();
        // Between two questions of one command, what is typed is meant for the next question.
        if (this.asking) return;
        const done = commands.run(entry.command, event);
        if (!ASKING.has(entry.command)) return;
        this.asking = true;
        done.finally(() => (this.asking = false));
      },
      pasted: (event) => {
        if (readonly) return;
        event.preventDefault();
        commands.paste(event.clipboardData?.getData("text/plain") ?? "");
      },
    };
  }

  listen() {
    const { signal } = this.gone;
    const { store } = this;
    let told = "";
    store.subscribe("selection", () => {
      const { paths, edge } = store.selection;
      const now = JSON.stringify([paths, edge]);
      if (now === told) return;
      told = now;
      this.send("mn:select", { nodes: paths, edge: store.view.edges[edge] ?? null });
      this.socket?.select(paths);
    });
    store.subscribe("view", () => {
      this.dataset.version = String(store.server.version);
    });
    // A browser scrolls to what it focuses; the picture is moved instead, or half of it would stay cut off.
    this.addEventListener("scroll", ({ target }) => {
      if ((target.scrollTop || target.scrollLeft) && target.querySelector?.(".react-flow__viewport")) target.scrollTo(0, 0);
    }, { signal, capture: true });
    document.addEventListener("mn:select", (event) => {
      if (event.target === this || !event.detail?.nodes) return;
      const nodes = event.detail.nodes.filter((path) => store.view.nodes[path]);
      told = JSON.stringify([nodes, ""]);
      store.select({ paths: nodes, current: nodes[0] ?? store.selection.current, edge: "" });
      if (nodes[0]) this.canvas.reveal?.(nodes[0]);
      this.socket?.select(nodes);
    }, { signal });
    document.addEventListener("mn:applied", (event) => {
      if (event.target !== this) this.session.heard(event.detail ?? {});
    }, { signal });
    document.addEventListener("mn:comments", () => store.setComments(pageComments()), { signal });
    document.addEventListener("mn:add", (event) => this.isDrawn && this.putAfter(event.detail), { signal });
    document.addEventListener("click", (event) => {
      const action = event.target.closest?.("[data-action]")?.dataset.action;
      if (this.mode !== "edit" || !this.isDrawn) return;
      if (["undo", "redo", "tidy"].includes(action)) this.commands.run(action);
      if (["group", "duplicate", "copy", "remove"].includes(action) && event.target.closest("#inspector")) this.commands.run(action);
    }, { signal });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
      if (event.target.closest?.("#inspector, #step-panel")) this.canvas.focus?.(store.selection.current);
    }, { signal });
  }

  /** The form of a step: the page brings it; the keyboard goes into it as soon as it is there. */
  open(what) {
    if (what.node && !this.store.selection.paths.includes(what.node)) this.store.select(only(what.node));
    this.send("mn:open", what);
    const form = document.getElementById("inspector") ?? document.getElementById("step-panel");
    if (!form) return;
    const enter = () => {
      const field = form.querySelector("input:not([type=hidden]), select, textarea, [data-first-focus]") ?? form.querySelector("button, a[href], summary");
      field?.focus();
      return Boolean(field);
    };
    const isThere = form.querySelector(`[data-node-path="${CSS.escape(what.node ?? "")}"], [data-node-id="${CSS.escape(what.node ?? "")}"]`);
    if (isThere && enter()) return;
    // Whoever goes on to something else meanwhile is not taken away from it.
    const { selection } = this.store;
    const settled = () => {
      if (this.store.selection !== selection || enter()) form.removeEventListener("htmx:afterSettle", settled);
    };
    form.addEventListener("htmx:afterSettle", settled, { signal: this.gone.signal });
    setTimeout(() => form.removeEventListener("htmx:afterSettle", settled), SAID_FOR_MS);
  }

  heard(message, me) {
    if (message.type === "ops") {
      this.session.hear(message);
      return;
    }
    if (message.type === "test") document.dispatchEvent(new CustomEvent("mn:test"));
    if (message.type !== "presence") return;
    this.store.setPeople(othersHere(message, me));
  }

  /** Run states by path: {path: {state: "waiting:approval", words?, seconds?, cost_usd?}}. */
  setStates(states) {
    if (!this.store) {
      this.early = { ...this.early, ...states };
      return;
    }
    for (const path of this.store.setStates(states)) {
      const node = this.store.view.nodes[path];
      if (node) this.announcer.heard(node.title, states[path].state.split(":")[0]);
    }
  }

  /** What the command palette can go to. */
  items() {
    return Object.values(this.store?.view.nodes ?? {}).map((node) => ({ title: node.title, description: node.subtitle, words: node.path, act: () => this.commands.go(node.path) }));
  }

  status({ words, isIdle, isOffline, version }) {
    this.dataset.idle = String(isIdle);
    this.dataset.version = String(version);
    const sign = document.getElementById("draft-status");
    if (!sign || this.mode !== "edit") return;
    sign.dataset.state = isOffline ? "offline" : isIdle ? "saved" : "saving";
    const last = sign.querySelector("[data-draft-said]");
    if (last) last.textContent = isOffline || !isIdle ? words.toLowerCase().replace(/…$/, "…") : "saved";
  }

  send(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
  }

  speak(words) {
    if (this.voice) this.voice.textContent = words;
  }

  /** Aloud for all; on the picture too when it is a problem, because nothing else shows it. */
  say(words, { isProblem = false } = {}) {
    this.speak(words);
    if (!this.toast) return;
    clearTimeout(this.hiding);
    this.toast.hidden = !isProblem;
    this.toast.textContent = isProblem ? words : "";
    if (isProblem) this.hiding = setTimeout(() => (this.toast.hidden = true), SAID_FOR_MS);
  }
}

if (!customElements.get("mn-graph")) customElements.define("mn-graph", Graph);

