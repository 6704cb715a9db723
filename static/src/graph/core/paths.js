// The lines of the picture: the same two rules as apps/blueprints/core/svg.py, so that every picture agrees.

const n = (number) => String(Math.round(number * 10) / 10);

/** Straight where the height stays, else an S that leaves and arrives horizontally. */
export function curves(points) {
  let path = `M${n(points[0][0])} ${n(points[0][1])}`;
  for (let i = 1; i < points.length; i += 1) {
    const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]];
    if (Math.abs(y1 - y0) < 0.05) path += `H${n(x1)}`;
    else {
      const middle = n((x0 + x1) / 2);
      path += `C${middle} ${n(y0)} ${middle} ${n(y1)} ${n(x1)} ${n(y1)}`;
    }
  }
  return path;
}

/** Right angles with round corners, for what goes back below the row. */
export function angles(points, radius = 8) {
  let path = `M${n(points[0][0])} ${n(points[0][1])}`;
  for (let i = 1; i < points.length - 1; i += 1) {
    const corner = points[i];
    const [x0, y0] = towards(corner, points[i - 1], radius);
    const [x1, y1] = towards(corner, points[i + 1], radius);
    path += `L${n(x0)} ${n(y0)}Q${n(corner[0])} ${n(corner[1])} ${n(x1)} ${n(y1)}`;
  }
  const [x, y] = points.at(-1);
  return `${path}L${n(x)} ${n(y)}`;
}

function towards([x0, y0], [x1, y1], distance) {
  const length = Math.max(Math.abs(x1 - x0) + Math.abs(y1 - y0), 0.01);
  const part = Math.min(distance / length, 0.5);
  return [x0 + (x1 - x0) * part, y0 + (y1 - y0) * part];
}

/** The points of an edge after its ends have moved: kept where they did not, else a plain way between the boxes. */
export function follow(edge, from, to, moved) {
  const points = edge.points ?? [];
  if (!moved && points.length > 1) return points;
  const start = [from.x + from.w, points.length ? points[0][1] + (moved?.from?.[1] ?? 0) : from.y + from.h / 2];
  const end = [to.x, to.y + to.h / 2];
  if (end[0] >= start[0] + 8) return [start, end];
  const lane = Math.max(from.y + from.h, to.y + to.h) + 20;
  const low = to.y + to.h - Math.min(12, to.h / 4);
  return [start, [start[0] + 12, start[1]], [start[0] + 12, lane], [end[0] - 12, lane], [end[0] - 12, low], [end[0], low]];
}
