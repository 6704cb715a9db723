// What an operation will most likely do, shown until the server has said what it did. Only what a hand feels at
// once is foretold: moves, removals, new and lost edges, titles. Everything else waits for the answer.
import { fitted } from "./containers.js";
import { isInside, merged, scopeOf } from "./patch.js";
import { follow } from "./paths.js";

/** The view as it would be after these operations. Never throws: what cannot be foretold changes nothing. */
export function foretell(view, operations) {
  return operations.reduce((shown, operation) => (GUESSES[operation.kind] ?? same)(shown, operation), view);
}

const same = (view) => view;

const GUESSES = {
  move_nodes: (view, { positions }) => moved(view, positions),
  remove_node: (view, { node }) => without(view, node),
  add_edge: (view, { scope, edge }) => withEdge(view, scope ?? "", edge),
  remove_edge: (view, operation) => {
    const found = edgeOf(view, operation);
    return found ? { ...view, edges: merged(view.edges, { [found.id]: null }) } : view;
  },
  set_config: (view, { node, path, new: value }) =>
    path?.length === 1 && path[0] === "title" && view.nodes[node] && typeof value === "string"
      ? { ...view, nodes: merged(view.nodes, { [node]: { ...view.nodes[node], title: value } }) }
      : view,
  set_layout: (view, { path, new: value }) => {
    const [canvas, kind, id] = path ?? [];
    if (canvas !== "canvas" || kind !== "notes" || !id || path.length !== 3) return view;
    const note = value && { id, w: 200, h: 120, ...value };
    return { ...view, notes: merged(view.notes, { [id]: note ?? null }) };
  },
};

/** The view with nodes at other places, what they hold and their lines with them, containers around their content. */
export function moved(view, positions) {
  const by = {};
  for (const [path, { x, y }] of Object.entries(positions)) {
    const node = view.nodes[path];
    if (node) by[path] = [x - node.x, y - node.y];
  }
  const shift = (path) => {
    for (let at = path; at; at = scopeOf(at)) if (by[at]) return by[at];
    return null;
  };
  const nodes = {};
  for (const [path, node] of Object.entries(view.nodes)) {
    const d = shift(path);
    if (d && (d[0] || d[1])) nodes[path] = { ...node, x: node.x + d[0], y: node.y + d[1] };
  }
  const edges = {};
  for (const [id, edge] of Object.entries(view.edges)) {
    if (!nodes[edge.from] && !nodes[edge.to]) continue;
    edges[id] = withEnds(edge, shift(edge.from), shift(edge.to), nodes[edge.from] ?? view.nodes[edge.from], nodes[edge.to] ?? view.nodes[edge.to]);
  }
  const after = { ...view, nodes: merged(view.nodes, nodes), edges: merged(view.edges, edges) };
  const scopes = Object.keys(positions).map((path) => view.nodes[path]?.scope).filter(Boolean);
  return scopes.length ? { ...after, nodes: merged(after.nodes, fitted(after, scopes)) } : after;
}

/** An edge after its ends have moved by these amounts; moved together it keeps its shape. */
export function withEnds(edge, fromBy, toBy, from, to) {
  const [a, b] = [fromBy ?? [0, 0], toBy ?? [0, 0]];
  if (!from || !to) return edge;
  if (a[0] === b[0] && a[1] === b[1]) {
    return {
      ...edge,
      points: edge.points.map(([x, y]) => [x + a[0], y + a[1]]),
      label_at: edge.label_at && [edge.label_at[0] + a[0], edge.label_at[1] + a[1]],
    };
  }
  const points = follow(edge, from, to, { from: a, to: b });
  return { ...edge, points, back: points.length > 3, label_at: [points[0][0] + 7, points[0][1] - 5] };
}

function without(view, path) {
  const gone = (other) => other === path || isInside(other, path);
  const nodes = {};
  for (const other of Object.keys(view.nodes)) if (gone(other)) nodes[other] = null;
  const edges = {};
  for (const edge of Object.values(view.edges)) if (gone(edge.from) || gone(edge.to)) edges[edge.id] = null;
  return { ...view, nodes: merged(view.nodes, nodes), edges: merged(view.edges, edges) };
}

function withEdge(view, scope, { from, to, label = "" }) {
  const [source, port = ""] = splitEnd(from);
  const place = (id) => (scope ? `${scope}/${id}` : id);
  const [a, b] = [view.nodes[place(source)], view.nodes[place(to)]];
  if (!a || !b) return view;
  const id = `${scope}|${source}.${port || a.ports?.out?.[0]?.name || "done"}|${to}|new`;
  const points = follow({ points: [] }, a, b, { from: [0, 0], to: [0, 0] });
  const edge = {
    id, scope, from: a.path, port, to: b.path, label, back: points.length > 3, points,
    label_at: [points[0][0] + 7, points[0][1] - 5], written: { from, to }, at: 0,
  };
  return { ...view, edges: merged(view.edges, { [id]: edge }) };
}

function edgeOf(view, { scope = "", edge, at = 0 }) {
  return Object.values(view.edges).find(
    (e) => e.scope === scope && e.written?.from === edge.from && e.written?.to === edge.to && (e.at ?? 0) === at,
  );
}

/** `review.approved` → ["review", "approved"]. */
export function splitEnd(end) {
  const dot = end.indexOf(".");
  return dot < 0 ? [end] : [end.slice(0, dot), end.slice(dot + 1)];
}
