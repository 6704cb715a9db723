// Where there is room.

const STEP = 20;
// As in apps/blueprints/core/layout.py.
const CARD = { w: 188, h: 64 };
const GAP = 48;

/** The place nearest below or beside a wish where a box of w by h covers nothing that stands in the same scope. */
export function freePlace(view, wish, { w, h }, scope = "") {
  const nodes = Object.values(view.nodes).filter((node) => !node.hidden && node.scope === scope);
  const boxes = scope ? nodes : [...nodes, ...Object.values(view.notes ?? {}), ...Object.values(view.groups ?? {})];
  const isFree = (x, y) => boxes.every((box) => x >= box.x + box.w || x + w <= box.x || y >= box.y + box.h || y + h <= box.y);
  const lowest = Math.max(wish.y, ...boxes.map((box) => box.y + box.h));
  for (let away = 0; wish.y + away <= lowest + STEP; away += STEP) {
    if (isFree(wish.x, wish.y + away)) return { x: wish.x, y: wish.y + away };
    if (isFree(wish.x, wish.y - away)) return { x: wish.x, y: wish.y - away };
  }
  return { x: wish.x, y: lowest + STEP };
}

/** Where a new step stands after `from`, or between `from` and `to`: beside what a person has put somewhere. Null where
 * nobody has: then the layout finds its place. */
export function placeOfNew(view, from, to = "") {
  const [before, after] = [view.nodes[from], view.nodes[to]];
  if (!before || before.hidden || (!before.placed && !after?.placed)) return null;
  const middle = (node) => node.y + node.h / 2;
  const wish = after
    ? { x: (before.x + before.w + after.x - CARD.w) / 2, y: (middle(before) + middle(after) - CARD.h) / 2 }
    : { x: before.x + before.w + GAP, y: middle(before) - CARD.h / 2 };
  return freePlace(view, wish, CARD, before.scope);
}
