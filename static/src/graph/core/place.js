// Where there is room.

const STEP = 20;

/** The place nearest below or beside a wish where a box of w by h covers nothing. */
export function freePlace(view, wish, { w, h }) {
  const boxes = [...Object.values(view.nodes).filter((node) => !node.hidden && !node.scope), ...Object.values(view.notes ?? {}), ...Object.values(view.groups ?? {})];
  const isFree = (x, y) => boxes.every((box) => x >= box.x + box.w || x + w <= box.x || y >= box.y + box.h || y + h <= box.y);
  const lowest = Math.max(wish.y, ...boxes.map((box) => box.y + box.h));
  for (let away = 0; wish.y + away <= lowest + STEP; away += STEP) {
    if (isFree(wish.x, wish.y + away)) return { x: wish.x, y: wish.y + away };
    if (isFree(wish.x, wish.y - away)) return { x: wish.x, y: wish.y - away };
  }
  return { x: wish.x, y: lowest + STEP };
}
