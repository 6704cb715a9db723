// What a person can do on the canvas, by key, button or mouse. Each command asks what it needs to know, sends
// operations, moves the keyboard and says what it did.
import { ask, tell } from "./ask.js";
import { commentsAt } from "./core/comments.js";
import { placing } from "./core/containers.js";
import { freeId, newId } from "./core/ids.js";
import { help } from "./core/keys.js";
import { moved } from "./core/optimistic.js";
import { scopeOf } from "./core/patch.js";
import { pastedWords } from "./core/pasted.js";
import { freePlace, placeOfNew } from "./core/place.js";
import { nothing, only, onlyEdge, outermost, toggle } from "./core/selection.js";
import { wordOf } from "./core/signs.js";
import { afterRemoval, first, last, step } from "./core/walk.js";
import { pick } from "../js/pick.js";

const NUDGE = 12;
const FAR = 60;
const DUPLICATE_BY = 36;

/** canvas: what the picture can do: focus(path), fit(), zoom(by), centre(), leave(). */
export function makeCommands({ store, session, api, canvas, say, open, readonly }) {
  let clip = "";
  const here = () => store.selection.current || first(store.view);
  const title = (path) => store.view.nodes[path]?.title ?? path;
  const chosen = () => (store.selection.paths.length ? store.selection.paths : here() ? [here()] : []);
  const go = (path) => {
    if (!path) return;
    store.select(only(path));
    canvas.focus(path);
  };

  /** The end of an edge as the document writes it: the main port has no name. */
  const endOf = (path, port) => {
    const node = store.view.nodes[path];
    const isMain = node.kind !== "router" && (!port || port === node.ports.out[0]?.name);
    return isMain ? node.id : `${node.id}.${port || "else"}`;
  };

  const edgesFrom = (path) => Object.values(store.view.edges).filter((edge) => edge.from === path);
  const edgesAt = (path) => Object.values(store.view.edges).filter((edge) => edge.from === path || edge.to === path);
  const edgeWords = (edge) => `${title(edge.from)} → ${title(edge.to)}`;
  const named = (edge) => ({ scope: edge.scope, edge: { from: edge.written.from, to: edge.written.to }, ...(edge.at ? { at: edge.at } : {}) });

  async function portOf(path, question) {
    const ports = store.view.nodes[path]?.ports?.out ?? [];
    if (ports.length < 2) return ports[0]?.name ?? "";
    const used = new Set(edgesFrom(path).map((edge) => edge.port));
    const found = await pick({
      title: question,
      items: ports.map((port) => ({ title: port.label, port: port.name, testid: port.name, description: used.has(port.name) ? "leads on already" : "" })),
    });
    return found ? found.port : null;
  }

  /** Choose what to add and add it. from: {path, port}; split: an edge to put it on; at: where; scope: inside what. */
  async function add({ from = null, split = null, at = null, scope = null } = {}) {
    const place = scope ?? (split ? split.scope : from ? scopeOf(from.path) : "");
    const source = split ? `${split.from}.${split.port}` : from ? `${from.path}.${from.port}` : "";
    const found = await pick({
      title: split ? `Insert on ${edgeWords(split)}` : from ? `Add after ${title(from.path)}` : "Add a step",
      placeholder: "What should it do?",
      load: async (words) => listOf(await api.palette(source, words, place)).map((entry) => ({
        ...entry, description: entry.fit || entry.description, testid: entry.name ? `${entry.kind}:${entry.name}` : entry.kind,
      })),
    });
    if (!found) return null;
    return put(found, { from, split, at, scope: place });
  }

  async function put(entry, { from = null, split = null, at = null, scope = "" } = {}) {
    const template = entry.template ?? { kind: entry.kind };
    const id = freeId(store.view, scope, template.id ?? template.tool ?? template.agent ?? template.title ?? template.kind, store.pending);
    const path = scope ? `${scope}/${id}` : id;
    const operation = { kind: "add_node", scope, node: { ...template, id } };
    const place = at ?? (split ? placeOfNew(store.view, split.from, split.to) : from && placeOfNew(store.view, from.path));
    if (place) operation.position = { x: Math.round(place.x), y: Math.round(place.y) };
    if (split) operation.split = named(split).edge;
    else if (from) operation.edge = { from: endOf(from.path, from.port), to: id };
    if (!(await session.do([operation]))) return say(`${session.why()} The step is kept and added as soon as it can be.`, { isProblem: true });
    if (!store.view.nodes[path]) return null;
    go(path);
    say(`Added ${title(path)}${split ? ` between ${title(split.from)} and ${title(split.to)}` : from ? ` after ${title(from.path)}` : ""}.`);
    return path;
  }

  async function connect(from, to, port) {
    const targets = listOf(await api.connect(`${from}${port ? `.${port}` : ""}`));
    if (to) {
      const target = targets.find((one) => one.node === to);
      return join(from, target ?? { node: to, allowed: false, reason: `“${title(to)}” cannot be connected.` }, port);
    }
    const found = await pick({
      title: `Connect ${title(from)} to`,
      placeholder: "Type a step’s name",
      items: targets.map((one) => ({
        title: one.title ?? title(one.node), description: one.allowed ? one.reason : "", reason: one.allowed ? "" : one.reason || "This is not possible.",
        testid: one.node, target: one,
      })),
      empty: "There is no other step.",
    });
    return found ? join(from, found.target, port) : null;
  }

  function join(from, target, port) {
    if (!target.allowed) {
      say(target.reason, { isProblem: true });
      return null;
    }
    const edge = target.edge ?? { from: endOf(from, port), to: store.view.nodes[target.node].id };
    say(`Connected ${title(from)} to ${title(target.node)}.`);
    return session.do([{ kind: "add_edge", scope: scopeOf(from), edge }]);
  }

  function move(dx, dy, far) {
    const by = far ? FAR : NUDGE;
    const paths = outermost(chosen());
    if (!paths.length) return;
    place(Object.fromEntries(paths.map((path) => {
      const node = store.view.nodes[path];
      return [path, { x: Math.round(node.x + dx * by), y: Math.round(node.y + dy * by) }];
    })));
    canvas.focus(here());
    say(paths.length === 1 ? `Moved ${title(paths[0])}.` : `Moved ${paths.length} steps.`);
  }

  const place = (positions) => session.do([{ kind: "move_nodes", positions: placing(store.view, positions, moved) }]);

  function remove() {
    const { edge: edgeId, paths } = store.selection;
    const edge = store.view.edges[edgeId];
    if (edge) {
      store.select(only(edge.from));
      canvas.focus(edge.from);
      say(`Removed the edge ${edgeWords(edge)}.`);
      return session.do([{ kind: "remove_edge", ...named(edge) }]);
    }
    const lost = outermost(paths.length ? paths : chosen());
    if (!lost.length) return null;
    const next = afterRemoval(store.view, lost);
    const edges = Object.values(store.view.edges).filter((one) => lost.includes(one.from) || lost.includes(one.to)).length;
    say(`Removed ${lost.length === 1 ? title(lost[0]) : `${lost.length} steps`}${edges ? ` and ${edges} ${edges === 1 ? "edge" : "edges"}` : ""}.`);
    const done = session.do(lost.map((path) => ({ kind: "remove_node", node: path })));
    if (next) go(next);
    else {
      store.select(nothing);
      canvas.focus("");
    }
    return done;
  }

  async function copy() {
    const paths = outermost(chosen());
    if (!paths.length) return false;
    const answer = await api.fragment(paths);
    clip = answer.text ?? answer;
    // Where the browser does not allow it, the copy still works on this page.
    await navigator.clipboard?.writeText(clip).catch(() => {});
    say(`Copied ${paths.length === 1 ? title(paths[0]) : `${paths.length} steps`} as YAML.`);
    return true;
  }

  async function paste(text, at) {
    const wanted = text || clip;
    if (!wanted.trim()) return say("There is nothing to paste.");
    const before = new Set(Object.keys(store.view.nodes));
    const current = store.view.nodes[here()];
    const scope = current ? current.scope : "";
    const isTaken = await session.do([{ kind: "paste", scope, text: wanted, ...(at && !scope ? { at } : {}) }]);
    if (!isTaken) return say(`${session.why()} What was pasted is kept and added as soon as it can be.`, { isProblem: true });
    const fresh = Object.keys(store.view.nodes).filter((path) => !before.has(path));
    if (!fresh.length) return null;
    const outer = outermost(fresh);
    store.select({ paths: outer, current: outer[0], edge: "" });
    canvas.focus(outer[0]);
    const { words, isProblem } = pastedWords(store.view, outer, fresh);
    return say(words, { isProblem });
  }

  async function duplicate() {
    const nodes = outermost(chosen()).map((path) => store.view.nodes[path]);
    if (!nodes.length) return;
    const answer = await api.fragment(nodes.map((node) => node.path));
    const at = { x: Math.round(Math.min(...nodes.map((n) => n.x)) + DUPLICATE_BY), y: Math.round(Math.max(...nodes.map((n) => n.y + n.h)) + DUPLICATE_BY) };
    await paste(answer.text ?? answer, at);
  }

  async function rename() {
    const node = store.view.nodes[here()];
    if (!node) return;
    const old = node.written_title;
    const wanted = await ask({ title: `Title of ${node.title}`, label: "Title", value: old ?? node.title });
    if (!wanted || wanted === (old ?? node.title)) return;
    session.do([{ kind: "set_config", node: node.path, path: ["title"], new: wanted, ...(old == null ? {} : { old }) }]);
    canvas.focus(node.path);
    say(`Now called ${wanted}.`);
  }

  async function group() {
    const paths = outermost(chosen());
    const mine = Object.values(store.view.groups).find((one) => paths.length && paths.every((path) => one.nodes.includes(path)));
    if (mine) {
      say(`Took the group ${mine.title || mine.id} apart.`);
      return session.do([{ kind: "ungroup", id: mine.id }]);
    }
    if (!paths.length) return null;
    const name = await ask({ title: `Group ${paths.length === 1 ? title(paths[0]) : `${paths.length} steps`}`, label: "Title of the group", verb: "Group" });
    if (!name) return null;
    say(`Grouped as ${name}.`);
    return session.do([{ kind: "group", title: name, nodes: paths }]);
  }

  async function note(id, at) {
    const old = id ? store.view.notes[id] : null;
    const text = await ask({ title: old ? "Change the note" : "Add a note", label: "Text", value: old?.text ?? "", long: true });
    if (text === null || (!old && !text)) return;
    const key = id ?? `n${newId().slice(0, 8)}`;
    const centre = canvas.centre();
    const place = at ?? freePlace(store.view, { x: centre.x - 100, y: centre.y - 60 }, { w: 200, h: 120 });
    const value = text ? { text, x: old?.x ?? Math.round(place.x), y: old?.y ?? Math.round(place.y), w: old?.w ?? 200, h: old?.h ?? 120 } : undefined;
    session.do([{ kind: "set_layout", path: ["canvas", "notes", key], ...(value ? { new: value } : {}) }]);
    say(text ? "The note is kept." : "Removed the note.");
  }

  function collapse(path = here()) {
    const groupHere = Object.values(store.view.groups).find((one) => one.id === path || one.nodes.includes(path));
    const node = store.view.nodes[path];
    if (node?.container) {
      const all = Object.values(store.view.nodes).filter((one) => one.collapsed).map((one) => one.path);
      const next = node.collapsed ? all.filter((one) => one !== path) : [...all, path];
      say(`${node.collapsed ? "Expanded" : "Collapsed"} ${node.title}.`);
      return session.do([{ kind: "set_layout", path: ["canvas", "collapsed"], ...(next.length ? { new: next } : {}) }]);
    }
    if (!groupHere) return say("Only containers and groups can be collapsed.");
    say(`${groupHere.collapsed ? "Expanded" : "Collapsed"} the group ${groupHere.title || groupHere.id}.`);
    const done = session.do([{ kind: "set_layout", path: ["canvas", "groups", groupHere.id, "collapsed"], ...(groupHere.collapsed ? {} : { new: true }) }]);
    return done.then(() => canvas.reveal(groupHere.nodes[0]));
  }

  async function find() {
    const found = await pick({
      title: "Find a step",
      placeholder: "Name or kind",
      items: Object.values(store.view.nodes).filter((node) => !node.hidden).map((node) => ({
        title: node.title, description: node.subtitle, words: `${node.path} ${node.subtitle}`, group: wordOf(store.state(node.path)?.state), testid: node.path, path: node.path,
      })),
    });
    if (found) go(found.path);
  }

  async function chooseEdge(path, question) {
    const edges = edgesAt(path);
    if (!edges.length) {
      say(`${title(path)} has no edges.`);
      return null;
    }
    const found = await pick({
      title: question,
      items: edges.map((edge) => ({ title: edgeWords(edge), description: [edge.label || edge.port, edge.when && `when ${edge.when}`, edge.problem].filter(Boolean).join(" · "), edge, testid: edge.id })),
    });
    return found?.edge ?? null;
  }

  function comments() {
    const node = store.view.nodes[here()];
    const found = node && commentsAt(store.comments, node);
    if (found) location.assign(found.url);
    else say("Nobody has commented on this step.");
  }

  function showKeys() {
    const table = document.createElement("table");
    table.className = "mn-keys";
    for (const entry of help(readonly)) {
      const row = table.insertRow();
      const key = document.createElement("th");
      key.scope = "row";
      const sign = document.createElement("kbd");
      sign.textContent = entry.shown;
      key.append(sign);
      row.append(key);
      row.insertCell().textContent = entry.says;
    }
    return tell({ title: "Keys of the canvas", body: table });
  }

  async function tidy(keepPlaced) {
    const answer = await session.ask(() => api.tidy(keepPlaced));
    if (!answer) return;
    canvas.fit();
    say(keepPlaced ? "Tidied; what was put by hand stayed." : "Tidied.");
  }

  const walk = (direction) => () => {
    const from = here();
    const to = step(store.view, from, direction);
    if (to === store.selection.current) say("Nothing further that way.");
    go(to);
  };

  const undoing = (act, word) => async () => {
    const answer = await session.ask(act);
    if (!answer) return;
    say(`${word}.`);
    const current = store.selection.current;
    canvas.focus(current && store.view.nodes[current] ? current : first(store.view));
  };

  const table = {
    right: walk("right"),
    left: walk("left"),
    up: walk("up"),
    down: walk("down"),
    first: () => go(first(store.view)),
    last: () => go(last(store.view)),
    open: () => {
      const { edge } = store.selection;
      if (edge || here()) open(edge ? { edge } : { node: here() });
    },
    escape: () => {
      const { paths, edge, current } = store.selection;
      if (paths.length || edge) store.select({ ...nothing, current });
      canvas.focus(current);
    },
    toggle: () => here() && store.select(toggle(store.selection, here())),
    "select-all": () => store.select({ paths: Object.keys(store.view.nodes).filter((path) => !store.view.nodes[path].hidden), current: here(), edge: "" }),
    find,
    comments,
    keys: showKeys,
    fit: () => canvas.fit(),
    "zoom-in": () => canvas.zoom(1),
    "zoom-out": () => canvas.zoom(-1),
    collapse: () => collapse(),
    edges: async () => {
      const path = here();
      if (!path) return;
      const edge = await chooseEdge(path, `Edges of ${title(path)}`);
      if (!edge) return;
      store.select(onlyEdge(store.selection, edge.id));
      canvas.focus(path);
      say(`Selected the edge ${edgeWords(edge)}. Delete removes it, I inserts a step on it.`);
    },
    connect: async () => {
      const path = here();
      if (!path) return;
      const port = await portOf(path, `Which way out of ${title(path)}?`);
      if (port !== null) await connect(path, null, port);
      canvas.focus(path);
    },
    "add-after": async () => {
      const path = here();
      if (!path) return add();
      const port = await portOf(path, `After which way out of ${title(path)}?`);
      return port === null ? null : add({ from: { path, port } });
    },
    insert: async () => {
      const selected = store.view.edges[store.selection.edge];
      const outgoing = here() ? edgesFrom(here()) : [];
      const edge = selected ?? (outgoing.length === 1 ? outgoing[0] : here() ? await chooseEdge(here(), "Insert on which edge?") : null);
      return edge ? add({ split: edge }) : null;
    },
    palette: () => {
      const node = store.view.nodes[store.selection.current];
      const isEmptyContainer = node?.container && !node.collapsed && !Object.values(store.view.nodes).some((one) => one.scope === node.path);
      return add(isEmptyContainer ? { scope: node.path } : { scope: node?.scope ?? "" });
    },
    remove,
    rename,
    group,
    note: () => note(),
    tidy: () => tidy(false),
    "tidy-rest": () => tidy(true),
    "move-right": (event) => move(1, 0, event?.shiftKey),
    "move-left": (event) => move(-1, 0, event?.shiftKey),
    "move-up": (event) => move(0, -1, event?.shiftKey),
    "move-down": (event) => move(0, 1, event?.shiftKey),
    copy,
    cut: async () => (await copy()) && remove(),
    duplicate,
    undo: undoing(() => api.undo(), "Undone"),
    redo: undoing(() => api.redo(), "Done again"),
  };

  return {
    /** Run a command by name; what fails is said, never thrown. */
    async run(name, event) {
      try {
        await table[name]?.(event);
      } catch (error) {
        say(error.message, { isProblem: true });
      }
    },
    add: (where) => add(where).catch((error) => say(error.message, { isProblem: true })),
    put: (entry, where) => put(entry, where).catch((error) => say(error.message, { isProblem: true })),
    connect: (from, to, port) => connect(from, to, port).catch((error) => say(error.message, { isProblem: true })),
    paste: (text) => paste(text, null).catch((error) => say(error.message, { isProblem: true })),
    place,
    note,
    collapse,
    go,
    /** An edge's other end, or its beginning, was taken elsewhere. */
    async reconnect(edge, { from, port, to }) {
      const targets = listOf(await api.connect(`${from}.${port}`));
      const target = targets.find((one) => one.node === to);
      if (target && !target.allowed && (from !== edge.from || to !== edge.to)) return say(target.reason, { isProblem: true });
      const fields = { ...(edge.when ? { when: edge.when } : {}), ...(edge.label && edge.label !== edge.port ? { label: edge.label } : {}), ...(edge.max_rounds ? { max_rounds: edge.max_rounds } : {}) };
      const next = { ...fields, ...(target?.edge ?? {}), from: endOf(from, port), to: store.view.nodes[to].id };
      say(`The edge now leads from ${title(from)} to ${title(to)}.`);
      return session.do([{ kind: "remove_edge", ...named(edge) }, { kind: "add_edge", scope: edge.scope, edge: next }]);
    },
  };
}

const listOf = (answer) => (Array.isArray(answer) ? answer : (answer.targets ?? answer.entries ?? answer.items ?? answer.palette ?? []));
