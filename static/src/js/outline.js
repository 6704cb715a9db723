// The outline: the graph as a tree that can be edited by keyboard, by touch and with a screen reader.
//
// The rows come from the server; those that have changed are changed in place. The commands are the canvas's own; where
// the canvas is on show its session sends them, else (on a phone, or where it is not built) one of its own does.
import { makeApi, pageComments } from "../graph/api.js";
import { makeCommands } from "../graph/commands.js";
import { keyFor } from "../graph/core/keys.js";
import { only } from "../graph/core/selection.js";
import { isLeft, makeSession } from "../graph/session.js";
import { makeUnsettled } from "../graph/unsettled.js";
import { othersHere } from "../graph/presence.js";
import { openSocket } from "../graph/socket.js";
import { makeStore } from "../graph/store.js";
import { makeNews } from "./draft_news.js";
import { fixList } from "./fix_list.js";
import { outlinePeople } from "./outline_people.js";
import { nameOf, patchRows } from "./outline_rows.js";

const TYPING_MS = 700;
const FOLLOW_MS = 120;
const ROOM = 8; // Px around a row that is brought into sight.
const STATES = { offline: "offline", saving: "saving" };
const MENU = [
  ["open", "Settings"],
  ["add-after", "Add a step after it"],
  ["insert", "Insert a step on an edge"],
  ["connect", "Connect to another step"],
  ["edges", "Choose one of its edges"],
  ["rename", "Change the title"],
  ["swap-up", "Move up"],
  ["swap-down", "Move down"],
  ["duplicate", "Duplicate"],
  ["copy", "Copy"],
  ["paste", "Paste"],
  ["remove", "Remove"],
];

// Somebody may have removed the step of a row that is still on show: these are never done to another one instead.
const ABOUT_A_STEP = new Set([
  "open", "add-after", "insert", "connect", "edges", "rename", "swap-up", "swap-down", "duplicate", "copy", "cut", "remove", "group", "collapse",
  "comments", "move-right", "move-left", "move-up", "move-down",
]);

export function outline(root) {
  const { blueprint, draft } = root.dataset;
  const isPrivate = root.dataset.private === "true";
  const readonly = root.dataset.mayEdit !== "true";
  const voice = document.getElementById("outline-voice");
  const graph = document.getElementById("graph");
  const api = makeApi({ name: blueprint, isPrivate });
  const keepAs = `mn-outline-${draft}-${isPrivate}`;
  let own = null;
  let beginning = null;
  let entering = null;
  let undecided = null;
  let wanted = "";
  let chosen = ""; // What was chosen beside the outline, and has no row yet.
  let typed = "";
  let typedAt = 0;
  let menu = null;

  const say = (words) => {
    voice.textContent = words;
  };

  // Rows

  const tree = () => root.querySelector("[role=tree]");
  const items = () => [...root.querySelectorAll("[role=treeitem]")];
  const isSeen = (item) => !item.parentElement.closest('[role=treeitem][aria-expanded="false"]');
  const seen = () => items().filter(isSeen);
  const itemOf = (name) => items().find((item) => nameOf(item) === name);
  const current = () => root.querySelector('[role=treeitem][tabindex="0"]') ?? seen()[0];
  const around = (item) => item.parentElement.closest("[role=treeitem]");
  const titleOf = (item) => item.querySelector("b").textContent;
  const isHere = () => root.contains(document.activeElement);

  function mark(item, { focus = true, tell = true } = {}) {
    if (!item) return;
    chosen = "";
    for (const one of items()) {
      one.tabIndex = one === item ? 0 : -1;
      one.setAttribute("aria-selected", String(one === item));
      const more = one.querySelector(":scope > .outline-row [data-more]");
      if (more) more.tabIndex = one === item ? 0 : -1;
    }
    for (let outer = around(item); outer; outer = around(outer)) outer.setAttribute("aria-expanded", "true");
    if (focus) {
      entering?.abort();
      item.focus();
    }
    else if (!isHere()) bring(item);
    if (tell) follow(item);
  }

  /** Into sight within the column, without moving the page. */
  function bring(item) {
    const column = root.closest(".editor-left");
    const [seenIn, row] = [column, item.querySelector(".outline-row")].map((one) => one.getBoundingClientRect());
    const [above, below] = [row.top - seenIn.top - ROOM, row.bottom - seenIn.bottom + ROOM];
    const by = above < 0 ? above : Math.min(above, Math.max(0, below));
    if (by) column.scrollBy(0, by);
  }

  let following = 0;
  // The settings follow where the keyboard is, once it rests.
  function follow(item) {
    clearTimeout(following);
    following = setTimeout(() => select(item), FOLLOW_MS);
  }

  function select(item) {
    clearTimeout(following);
    const nodes = pathsOf(item);
    root.dispatchEvent(new CustomEvent("mn:select", { bubbles: true, detail: { nodes } }));
    if (own && nodes.length) own.store.select({ paths: nodes, current: nodes[0], edge: "" });
    own?.socket.select(nodes);
  }

  const pathsOf = (item) =>
    item.dataset.nodePath !== undefined ? [item.dataset.nodePath] : [...item.querySelectorAll("[data-node-path]")].map((one) => one.dataset.nodePath);

  // What does the work

  const isMounted = () => Boolean(graph && "mounted" in graph.dataset && graph.session);
  const isEdgeChosen = () => Boolean((isMounted() ? graph.store : own?.store)?.selection.edge);
  const canvas = {
    focus: (path) => {
      wanted = path || "first";
      land();
    },
    centre: () => ({ x: 0, y: 0 }),
    reveal() {}, fit() {}, zoom() {}, leave() {},
  };
  const open = (what) => {
    root.dispatchEvent(new CustomEvent("mn:open", { bubbles: true, detail: what }));
    enter(what.node ?? "");
  };

  let onCanvas = null;
  async function engine() {
    if (isMounted()) {
      if (own) {
        const leaving = own;
        await leaving.session.settled();
        // Several may wait for the same last answer; the first of them closes it.
        if (own === leaving) {
          // The picture began with what the page brought, which may be long ago.
          graph.session.catchUp(leaving.store.server);
          leaving.close();
          own = beginning = null;
        }
      }
      if (onCanvas?.session !== graph.session) {
        const { store, session } = graph;
        onCanvas = { store, session, commands: makeCommands({ store, session, api, canvas, say, open, readonly }) };
      }
      return onCanvas;
    }
    return beginOwn();
  }

  async function beginOwn() {
    beginning ??= begin().catch((error) => {
      beginning = null; // The next command tries again.
      throw error;
    });
    own = await beginning;
    return own;
  }

  async function begin() {
    const store = makeStore(await api.view());
    store.setComments(pageComments());
    const unsettled = makeUnsettled({ settle: (id, isKept) => session.settle(id, isKept), left: () => land() });
    // Those of an engine that was given up stay until they are decided; they come back with this one.
    undecided?.remove();
    undecided = unsettled.element;
    document.querySelector(".editor-canvas").after(undecided);
    const session = makeSession({
      store, api, keepAs, say, undecided: (list) => unsettled.show(list),
      applied: (detail) => root.dispatchEvent(new CustomEvent("mn:applied", { bubbles: true, detail })),
      status: ({ words, isOffline, isIdle }) => {
        const state = isOffline ? STATES.offline : isIdle ? "saved" : STATES.saving;
        root.dataset.idle = String(isIdle);
        document.dispatchEvent(new CustomEvent("mn:saving", { detail: { state, words } }));
      },
    });
    // An edge that was chosen is shown in its form, as on the canvas.
    store.subscribe("selection", () => {
      const edge = store.view.edges[store.selection.edge];
      if (edge) root.dispatchEvent(new CustomEvent("mn:select", { bubbles: true, detail: { nodes: [], edge } }));
    });
    const socket = openSocket({
      draft, after: () => store.server.version,
      hear(message) {
        if (message.type === "ops") session.hear(message);
        if (message.type === "presence") othersHere(message, graph?.dataset.me);
        if (message.type === "test") document.dispatchEvent(new CustomEvent("mn:test"));
      },
    });
    return {
      store, session, socket, commands: makeCommands({ store, session, api, canvas, say, open, readonly }),
      close() {
        socket.close();
        session.close();
      },
    };
  }

  /** Run one of the canvas's commands on a row. */
  async function run(name, item = current(), event = undefined) {
    try {
      const { store, session, commands } = await engine();
      if (item?.dataset.groupId) return await onGroup(name, item, session);
      const path = item?.dataset.nodePath ?? "";
      // What a collapsed container holds is not in the picture; it opens for whoever works on it.
      for (let outer = store.view.nodes[path] ? "" : scopeOf(path); outer; outer = scopeOf(outer)) {
        if (store.view.nodes[outer]?.collapsed) await commands.collapse(outer);
      }
      if (path && ABOUT_A_STEP.has(name) && !store.view.nodes[path]) return say("That step is not in the draft any more.");
      const isEdge = store.selection.edge && store.selection.current === path && ["remove", "insert", "open"].includes(name);
      if (path && !isEdge && store.view.nodes[path]) store.select(only(path));
      wanted = wanted || path;
      if (name === "swap-up" || name === "swap-down") return await swap(item, name === "swap-up" ? -1 : 1, store, session);
      if (name === "paste") return await commands.paste(await clipboard());
      return await commands.run(name, event);
    } catch (error) {
      say(error.message);
      return null;
    }
  }

  async function onGroup(name, item, session) {
    if (name === "remove" || name === "group") {
      say(`Took the group ${titleOf(item)} apart.`);
      wanted = pathsOf(item)[0] ?? "first";
      return session.do([{ kind: "ungroup", id: item.dataset.groupId }]);
    }
    return say("A group itself is only taken apart (Delete); its steps stand below it.");
  }

  /** The place of one step in the picture for that of the one above or below it. */
  async function swap(item, by, store, session) {
    const beside = [...item.parentElement.children].filter((one) => one.dataset.nodePath);
    const other = beside[beside.indexOf(item) + by];
    if (!other) return say("There is no step further that way.");
    const [one, two] = [store.view.nodes[item.dataset.nodePath], store.view.nodes[other.dataset.nodePath]];
    say(`Changed places with ${titleOf(other)}.`);
    const at = (node) => ({ x: Math.round(node.x), y: Math.round(node.y) });
    return session.do([{ kind: "move_nodes", positions: { [one.path]: at(two), [two.path]: at(one) } }]);
  }

  const scopeOf = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));

  async function clipboard() {
    try {
      return await navigator.clipboard.readText();
    } catch {
      return "";
    }
  }

  // Keys

  const moves = {
    ArrowDown: (item) => seen()[seen().indexOf(item) + 1],
    ArrowUp: (item) => seen()[seen().indexOf(item) - 1],
    ArrowRight: (item) => {
      if (item.getAttribute("aria-expanded") === "false") return void item.setAttribute("aria-expanded", "true");
      return item.hasAttribute("aria-expanded") ? item.querySelector("[role=treeitem]") : null;
    },
    ArrowLeft: (item) => {
      if (item.getAttribute("aria-expanded") === "true") return void item.setAttribute("aria-expanded", "false");
      return around(item);
    },
    Home: () => seen()[0],
    End: () => seen().at(-1),
  };

  function key(event) {
    const item = event.target.closest("[role=treeitem]");
    if (!item || event.target.closest("button") || event.defaultPrevented) return;
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (isPlain && moves[event.key]) {
      event.preventDefault();
      mark(moves[event.key](item));
      return;
    }
    if (event.altKey && !readonly && ["ArrowUp", "ArrowDown"].includes(event.key)) {
      event.preventDefault();
      run(event.key === "ArrowUp" ? "swap-up" : "swap-down", item);
      return;
    }
    const entry = keyFor(event, { readonly });
    const isTyping = performance.now() - typedAt < TYPING_MS && isPlain && event.key.length === 1;
    if (isPlain && /^\S$/u.test(event.key) && (!entry || isTyping)) {
      event.preventDefault();
      seek(event.key, item);
      return;
    }
    if (!entry || entry.passes) return;
    if (entry.command === "copy" && String(getSelection())) return;
    event.preventDefault();
    event.stopPropagation();
    if (entry.command === "toggle") return;
    run(entry.command, item, event);
  }

  /** Letters that are no command find a row by how its title begins. */
  function seek(letter, from) {
    typed = performance.now() - typedAt < TYPING_MS ? typed + letter.toLowerCase() : letter.toLowerCase();
    typedAt = performance.now();
    const rows = seen();
    const start = rows.indexOf(from) + (typed.length === 1 ? 1 : 0);
    const found = [...rows.slice(start), ...rows.slice(0, start)].find((row) => titleOf(row).toLowerCase().startsWith(typed));
    if (found) mark(found);
    else say(`No step begins with “${typed}”.`);
  }

  // The form of a step, once the page has brought it

  function enter(path) {
    const form = document.getElementById("inspector");
    if (!form) return;
    const item = path && itemOf(path);
    if (item) select(item);
    const isThere = () => !path || form.querySelector(`[data-node-path="${CSS.escape(path)}"], [data-node-id="${CSS.escape(path)}"]`);
    const go = () => {
      if (!isThere()) return false;
      const field = form.querySelector("input:not([type=hidden]), select, textarea") ?? form.querySelector("button, a[href], summary");
      field?.focus();
      return Boolean(field);
    };
    entering?.abort();
    if (go()) return;
    // Whoever goes on to another row meanwhile is not taken away from it.
    const mine = (entering = new AbortController());
    form.addEventListener("htmx:afterSettle", () => go() && mine.abort(), { signal: mine.signal });
  }

  // The menu of a row

  function showMenu(item) {
    menu?.remove();
    menu = document.createElement("div");
    menu.className = "outline-menu";
    menu.popover = "auto";
    menu.setAttribute("role", "menu");
    menu.setAttribute("aria-label", titleOf(item));
    menu.dataset.testid = "outline-menu";
    for (const [name, words] of MENU) {
      if (readonly && name !== "open" && name !== "copy" && name !== "edges") continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button bare";
      button.setAttribute("role", "menuitem");
      button.dataset.command = name;
      button.textContent = words;
      button.addEventListener("click", () => {
        menu.hidePopover();
        run(name, itemOf(nameOf(item)) ?? item);
      });
      menu.append(button);
    }
    menu.addEventListener("keydown", (event) => {
      const all = [...menu.children];
      const at = all.indexOf(document.activeElement);
      const next = { ArrowDown: all[at + 1] ?? all[0], ArrowUp: all[at - 1] ?? all.at(-1), Home: all[0], End: all.at(-1) }[event.key];
      if (!next) return;
      event.preventDefault();
      next.focus();
    });
    menu.addEventListener("toggle", (event) => {
      if (event.newState !== "closed") return;
      if (menu?.contains(document.activeElement) || document.activeElement === document.body) itemOf(nameOf(item))?.focus();
      event.target.remove();
      news.soon();
    });
    item.querySelector(".outline-row").append(menu);
    menu.showPopover({ source: item.querySelector("[data-more]") });
    menu.firstElementChild.focus();
  }

  // What changes

  /** The keyboard goes where a command sent it, as soon as that row is there. */
  function land() {
    const item = wanted === "first" ? seen()[0] : itemOf(wanted);
    if (!item) return;
    // Whoever has gone on into a field meanwhile stays there.
    const isFree = !document.activeElement?.closest("input, textarea, select, dialog[open], #inspector");
    // An edge that was chosen stays chosen, so that Delete means the edge.
    if (isEdgeChosen()) clearTimeout(following);
    mark(item, { focus: isFree, tell: isFree && !isEdgeChosen() });
    wanted = "";
  }

  function putRows(told) {
    const before = current();
    const name = before ? nameOf(before) : "";
    const place = before ? seen().indexOf(before) : 0;
    const had = isHere();
    const isOnButton = Boolean(document.activeElement?.matches("[data-more]"));
    patchRows(root, told);
    const item = itemOf(name) ?? seen()[Math.max(0, Math.min(place, seen().length - 1))];
    if (item) {
      // What was taken out or moved has lost the keyboard; it is back before the next key comes.
      const isLost = had && !isHere();
      if (item !== before || item.tabIndex !== 0) mark(item, { focus: isLost, tell: had && nameOf(item) !== name });
      else if (isLost) (isOnButton ? item.querySelector("[data-more]") : item).focus();
    }
    showPeople();
    if (wanted) land();
    else if (chosen && !isHere()) mark(itemOf(chosen), { focus: false, tell: false });
  }

  const showPeople = outlinePeople(root, itemOf);

  /** The page keeps them for the canvas, which may not be there yet. */
  function putComments(comments) {
    const place = document.getElementById("review-comments");
    const text = JSON.stringify(comments);
    if (!place || place.textContent === text) return;
    place.textContent = text;
    document.dispatchEvent(new CustomEvent("mn:comments"));
  }

  const isOnShow = () => !document.hidden && root.checkVisibility() && !root.querySelector(".outline-menu");
  const news = makeNews({
    address: `/blueprints/${encodeURIComponent(blueprint)}/edit`, isPrivate, isSeen: isOnShow, version: Number(root.querySelector("[data-outline]").dataset.version),
    take: (told, at) => {
      putRows(told);
      putComments(told.comments);
      fixes?.put(told, at);
    },
  });
  const box = document.getElementById("problems");
  const fixes = box && fixList(box, { news, say, elsewhere: current });
  new ResizeObserver(() => news.soon()).observe(root);
  document.addEventListener("mn:applied", (event) => {
    if (own && event.target !== root) own.session.heard(event.detail ?? {});
    news.hear(event.detail?.version);
  });
  document.addEventListener("mn:select", (event) => {
    const [path] = event.detail?.nodes ?? [];
    if (event.target === root) return;
    const item = path && itemOf(path);
    if (item) mark(item, { focus: false, tell: false });
    else chosen = path ?? "";
  });
  document.addEventListener("click", (event) => {
    const jump = event.target.closest?.("[data-jump]");
    const item = jump && itemOf(jump.dataset.jump);
    if (item) {
      event.preventDefault();
      mark(item, { tell: false });
      select(item);
      say(`Selected ${titleOf(item)}.`);
      return;
    }
    const action = event.target.closest?.("[data-action]")?.dataset.action;
    if (isMounted() || readonly) return;
    if (["undo", "redo", "tidy"].includes(action)) run(action, null);
    if (["group", "duplicate", "copy", "remove"].includes(action) && event.target.closest("#inspector")) run(action);
  });
  // A step chosen from the palette, where no canvas hears it: it follows the row the keyboard is on.
  document.addEventListener("mn:add", async (event) => {
    if (isMounted() || readonly) return;
    const { store, commands } = await engine();
    const path = current()?.dataset.nodePath ?? "";
    const node = store.view.nodes[path];
    const port = node?.ports.out[0]?.name;
    commands.put(event.detail, event.detail.alone || !port ? {} : { from: { path, port }, scope: node.scope });
  });
  root.addEventListener("keydown", key);
  root.addEventListener("click", (event) => {
    if (event.target.closest(".outline-menu")) return;
    const item = event.target.closest("[role=treeitem]");
    if (!item) return;
    if (event.target.closest("[data-more]")) {
      mark(item, { focus: false, tell: item !== current() });
      showMenu(item);
      return;
    }
    if (event.target.closest("[data-fold]")) {
      item.setAttribute("aria-expanded", String(item.getAttribute("aria-expanded") !== "true"));
      return;
    }
    mark(item);
  });
  root.addEventListener("dblclick", (event) => {
    const item = event.target.closest("[role=treeitem]");
    if (item && !event.target.closest("button")) run("open", item);
  });
  root.addEventListener("paste", async (event) => {
    if (readonly || !event.target.closest("[role=treeitem]")) return;
    event.preventDefault();
    const words = event.clipboardData?.getData("text/plain") ?? "";
    const { store, commands } = await engine();
    const path = current()?.dataset.nodePath;
    if (path && store.view.nodes[path]) store.select(only(path));
    commands.paste(words);
  });
  document.querySelector("[data-outline-add]")?.addEventListener("click", () => run("palette", current() ?? null));
  const first = new URLSearchParams(location.search).get("node");
  mark((first && itemOf(first)) || seen()[0], { focus: false, tell: false });
  // Where no canvas does it, the outline itself hears what others do and says who is here.
  const isCanvasOnShow = () => isMounted() || (customElements.get("mn-graph") && graph?.checkVisibility() && !("failed" in graph.dataset));
  // What an earlier page kept is sent all the same; where the canvas is on show by then, it takes over from there.
  const attend = () => !readonly && draft && (isLeft(keepAs) || !isCanvasOnShow()) && beginOwn().then(engine).catch(() => {});
  if (document.readyState === "complete") attend();
  else addEventListener("load", attend, { once: true });
  document.addEventListener("mn:mounted", () => own && engine());
  root.dataset.ready = "true";
}
