// What is on show, outside React: the server's view, what is on its way, selection, run states, people. Each part has
// its own listeners, so that a state that changes draws one card and nothing else.
import { foretell } from "./core/optimistic.js";
import { nothing, within } from "./core/selection.js";

export function makeStore(view) {
  const listeners = new Map();
  let server = view;
  let shown = view;
  let pending = [];
  let selection = nothing;
  let connecting = null;
  const states = new Map();
  let people = new Map();
  let shifts = new Map();
  let nearEdge = "";
  let isFar = false;
  let comments = {};

  const tell = (key) => listeners.get(key)?.forEach((listener) => listener());
  const show = () => {
    const next = foretell(server, pending);
    if (next === shown) return;
    shown = next;
    const kept = within(selection, shown);
    if (kept !== selection) {
      selection = kept;
      tell("selection");
    }
    tell("view");
  };

  return {
    subscribe(key, listener) {
      if (!listeners.has(key)) listeners.set(key, new Set());
      listeners.get(key).add(listener);
      return () => listeners.get(key).delete(listener);
    },
    get view() {
      return shown;
    },
    get server() {
      return server;
    },
    get selection() {
      return selection;
    },
    get connecting() {
      return connecting;
    },
    setServer(next) {
      server = next;
      show();
    },
    /** Operations that are not known to be done. */
    get pending() {
      return pending;
    },
    setPending(operations) {
      pending = operations;
      show();
    },
    select(next) {
      if (next === selection) return;
      selection = next;
      tell("selection");
    },
    setConnecting(next) {
      connecting = next;
      tell("connecting");
    },
    state: (path) => states.get(path) ?? null,
    /** Run states by path; only cards whose state has changed are drawn anew. Returns the changed paths. */
    setStates(changes) {
      const changed = [];
      for (const [path, state] of Object.entries(changes)) {
        if (JSON.stringify(states.get(path)) === JSON.stringify(state)) continue;
        states.set(path, state);
        changed.push(path);
      }
      for (const path of changed) tell(`state:${path}`);
      if (changed.length) tell("states");
      return changed;
    },
    /** Review comments that wait, {path: {count, url}}; the page brings them. */
    get comments() {
      return comments;
    },
    setComments(found) {
      comments = found;
      tell("comments");
    },
    personAt: (path) => people.get(path) ?? null,
    /** Who has selected what, without the person looking. */
    setPeople(list) {
      const before = people;
      people = new Map();
      for (const person of list) for (const path of person.selected ?? []) if (!people.has(path)) people.set(path, person);
      for (const path of new Set([...before.keys(), ...people.keys()])) tell(`person:${path}`);
    },
    get isFar() {
      return isFar;
    },
    /** Whether the picture is so small that only shapes and titles are drawn. */
    setFar(now) {
      if (now === isFar) return;
      isFar = now;
      tell("far");
    },
    get nearEdge() {
      return nearEdge;
    },
    /** The edge the pointer is on: it offers to take a step in. */
    setNearEdge(id) {
      const before = nearEdge;
      nearEdge = id;
      if (before) tell(`edge:${before}`);
      if (id) tell(`edge:${id}`);
    },
    shiftOf: (path) => shifts.get(path) ?? null,
    /** How far nodes have been dragged that are still in the hand; empty when they are put down. */
    setShifts(next) {
      const before = shifts;
      shifts = next;
      for (const edge of Object.values(shown.edges)) {
        if (before.has(edge.from) || before.has(edge.to) || next.has(edge.from) || next.has(edge.to)) tell(`edge:${edge.id}`);
      }
    },
  };
}
