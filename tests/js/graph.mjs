// A small view model as the server makes it, for the tests.
export function view(spec = {}) {
  const nodes = {};
  const place = { read: [0, 0], judge: [240, 0], good: [480, -60], bad: [480, 60], each: [720, 0], "each/score": [740, 50], "each/note": [960, 50] };
  for (const [path, [x, y]] of Object.entries(place)) {
    const container = path === "each";
    nodes[path] = {
      path, id: path.split("/").at(-1), scope: path.includes("/") ? "each" : "", kind: container ? "map" : "tool", title: path, x, y,
      w: container ? 420 : 188, h: container ? 130 : 64, container, ports: { in: true, out: [{ name: "done", label: "done" }, { name: "failed", label: "failed" }] },
      problems: { errors: 0, warnings: 0, first: "" },
    };
  }
  const edges = {};
  const join = (from, to, more = {}) => {
    const [a, b] = [nodes[from], nodes[to]];
    const scope = a.scope;
    const id = `${scope}|${a.id}.done|${b.id}|0`;
    edges[id] = {
      id, scope, from, to, port: "done", label: "", back: false, closes: false, written: { from: a.id, to: b.id }, at: 0,
      points: [[a.x + a.w, a.y + 32], [b.x, b.y + 32]], label_at: [a.x + a.w + 7, a.y + 27], ...more,
    };
  };
  join("read", "judge");
  join("judge", "good");
  join("judge", "bad");
  join("good", "each");
  join("bad", "read", { back: true, closes: true });
  join("each/score", "each/note");
  return { version: 3, mode: "edit", nodes, edges, groups: {}, notes: {}, x: 0, y: -60, width: 1140, height: 190, ...spec };
}
