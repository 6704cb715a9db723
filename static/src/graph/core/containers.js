// Maps and loops are drawn around what they hold: the same sizes as apps/blueprints/core/layout.py; a test keeps them equal.
import { scopeOf } from "./patch.js";

export const PADDING = 18;
export const HEADER = 56;
const SMALLEST = { w: 188, h: 64 };
const SIDES = ["x", "y", "w", "h"];

const whole = ({ x, y }) => ({ x: Math.round(x), y: Math.round(y) });
const depth = (scope) => scope.split("/").length;

/** These containers and those around them, the innermost first. */
function outward(scopes) {
  const all = new Set();
  for (const scope of scopes) for (let at = scope; at; at = scopeOf(at)) all.add(at);
  return [...all].sort((a, b) => depth(b) - depth(a));
}

/** The nodes that change when these containers are drawn around their content anew, innermost first. */
export function fitted(view, scopes) {
  const changed = {};
  for (const path of outward(scopes)) {
    const container = view.nodes[path];
    const inside = Object.values(view.nodes).filter((node) => node.scope === path).map((node) => changed[node.path] ?? node);
    if (!container || container.collapsed || !inside.length) continue;
    const points = Object.values(view.edges).filter((edge) => edge.scope === path).flatMap((edge) => edge.points);
    const x = Math.min(...inside.map((node) => node.x), ...points.map((point) => point[0])) - PADDING;
    const y = Math.min(...inside.map((node) => node.y), ...points.map((point) => point[1])) - HEADER;
    const right = Math.max(...inside.map((node) => node.x + node.w), ...points.map((point) => point[0])) + PADDING;
    const bottom = Math.max(...inside.map((node) => node.y + node.h), ...points.map((point) => point[1])) + PADDING;
    const box = { x, y, w: Math.max(right - x, SMALLEST.w), h: Math.max(bottom - y, SMALLEST.h) };
    if (SIDES.some((side) => Math.abs(box[side] - container[side]) >= 0.5)) changed[path] = { ...container, ...box };
  }
  return changed;
}

/**
 * What has to be stored so that these nodes stand where they were put and nothing else jumps.
 *
 * moved: the view after a map of positions. Of what stands in a container only the places to one another count, so the
 * siblings are stored too; and a container that begins elsewhere or has another size would be arranged anew, so it is
 * put where it is. What it would grow over, to the right and below, makes room.
 */
export function placing(view, positions, moved) {
  const all = { ...positions };
  const keep = (scope) => {
    for (const node of Object.values(view.nodes)) {
      if (node.scope === scope && !all[node.path] && (scope || node.placed === false)) all[node.path] = whole(node);
    }
  };
  const scopes = new Set(Object.keys(positions).map((path) => view.nodes[path]?.scope ?? ""));
  for (const path of outward(scopes)) {
    if (!scopes.has(path)) continue;
    keep(path);
    const [was, is] = [view.nodes[path], moved(view, all).nodes[path]];
    if (!was || all[path] || SIDES.every((side) => Math.abs(is[side] - was[side]) < 1)) continue;
    all[path] = whole(is);
    for (const node of makeRoom(view, was, is)) all[node.path] ??= whole(node);
    scopes.add(was.scope);
  }
  // Nodes the layout still chooses a place for stay where they are shown once another one has been placed.
  if (scopes.has("")) keep("");
  return all;
}

/** What stands beside a container that grows over some of it, moved by as much as it grows. */
function makeRoom(view, was, is) {
  const beside = Object.values(view.nodes).filter((node) => node.scope === was.scope && node.path !== was.path && !node.hidden);
  const isOver = (node) => node.x < is.x + is.w && node.x + node.w > is.x && node.y < is.y + is.h && node.y + node.h > is.y;
  const ways = [["x", is.x + is.w - was.x - was.w, (node) => node.x >= was.x + was.w], ["y", is.y + is.h - was.y - was.h, (node) => node.y >= was.y + was.h]];
  const by = new Map();
  for (const [axis, grown, isThere] of ways) {
    const there = beside.filter(isThere);
    if (grown <= 0 || !there.some(isOver)) continue;
    for (const node of there) by.set(node.path, { ...(by.get(node.path) ?? node), [axis]: node[axis] + grown });
  }
  return [...by.values()];
}
