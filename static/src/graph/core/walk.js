// Where the arrow keys lead: along the edges first, else to what lies in that direction.
import { isInside, scopeOf } from "./patch.js";

/** The node to go to from `path`; `path` itself where there is none that way. */
export function step(view, path, direction) {
  const here = view.nodes[path];
  if (!here) return first(view);
  return (WAYS[direction]?.(view, here) ?? null)?.path ?? path;
}

const WAYS = {
  right: (view, here) => along(view, here, "from", "to") ?? beside(view, here, 1),
  left: (view, here) =>
    along(view, here, "to", "from") ?? beside(view, here, -1) ?? view.nodes[scopeOf(here.path)],
  up: (view, here) => stacked(view, here, -1) ?? view.nodes[scopeOf(here.path)],
  down: (view, here) => inside(view, here) ?? stacked(view, here, 1),
};

const seen = (view) => Object.values(view.nodes).filter((node) => !node.hidden);
const middle = (node) => node.y + node.h / 2;
const centre = (node) => node.x + node.w / 2;
const nearest = (nodes, weigh) => nodes.reduce((best, node) => (best && weigh(best) <= weigh(node) ? best : node), null);

/** Over an edge; forward edges before those that go back, then the one whose other end is nearest. */
function along(view, here, near, far) {
  const ends = Object.values(view.edges)
    .filter((edge) => edge[near] === here.path && edge[far] !== here.path && view.nodes[edge[far]] && !view.nodes[edge[far]].hidden)
    .map((edge) => ({ node: view.nodes[edge[far]], closes: edge.closes }));
  const forward = ends.filter((end) => !end.closes);
  const usable = forward.length ? forward : ends;
  return nearest(usable.map((end) => end.node), (node) => Math.abs(node.x - here.x) + Math.abs(middle(node) - middle(here)));
}

const siblings = (view, here) => seen(view).filter((node) => node.scope === here.scope && node.path !== here.path);

function beside(view, here, sign) {
  const there = siblings(view, here).filter((node) => sign * (node.x - here.x) > 0);
  return nearest(there, (node) => Math.abs(node.x - here.x) + 3 * Math.abs(middle(node) - middle(here)));
}

/** Above or below: in the same column if there is something, else the nearest. */
function stacked(view, here, sign) {
  const there = siblings(view, here).filter((node) => sign * (middle(node) - middle(here)) > 0);
  const column = there.filter((node) => node.x < here.x + here.w && node.x + node.w > here.x);
  return nearest(column.length ? column : there, (node) => Math.abs(middle(node) - middle(here)) + 3 * Math.abs(centre(node) - centre(here)));
}

function inside(view, here) {
  const children = seen(view).filter((node) => node.scope === here.path);
  return nearest(children, (node) => node.x * 1000 + node.y);
}

/** Where a keyboard enters the picture: leftmost at the top. */
export function first(view) {
  return nearest(seen(view).filter((node) => !node.scope), (node) => node.x * 1000 + node.y)?.path ?? "";
}

export function last(view) {
  return nearest(seen(view).filter((node) => !node.scope), (node) => -node.x * 1000 - node.y)?.path ?? "";
}

/** Where the keyboard goes when these nodes are removed: upstream, else downstream, else to the container, else
 * to what is nearest. */
export function afterRemoval(view, paths) {
  const gone = (path) => paths.some((lost) => path === lost || isInside(path, lost));
  const edges = Object.values(view.edges);
  for (const path of paths) {
    const ups = edges.filter((edge) => edge.to === path && !edge.closes && !gone(edge.from) && view.nodes[edge.from]);
    if (ups.length) return ups[0].from;
    const downs = edges.filter((edge) => edge.from === path && !gone(edge.to) && view.nodes[edge.to]);
    if (downs.length) return downs[0].to;
  }
  const here = view.nodes[paths[0]];
  if (here?.scope && view.nodes[here.scope] && !gone(here.scope)) return here.scope;
  const others = seen(view).filter((node) => !gone(node.path));
  return nearest(others, (node) => (here ? Math.abs(node.x - here.x) + Math.abs(node.y - here.y) : node.x))?.path ?? "";
}
