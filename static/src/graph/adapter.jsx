// The only file that knows React Flow. Turns the view model into its nodes and edges, its gestures into commands.
// Nodes stand absolutely in the plane; those in a container are given to React Flow relative to it, so that a dragged
// container takes its content along. Lines are drawn by our own rule, not by the library's.
import {
  Background, Handle, MiniMap, Position, ReactFlow, ReactFlowProvider, SelectionMode, applyNodeChanges, useReactFlow, useStore,
} from "@xyflow/react";
import { memo, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { Card, useKey } from "./card.jsx";
import { moved, withEnds } from "./core/optimistic.js";
import { angles, curves } from "./core/paths.js";
import { onlyEdge, outermost } from "./core/selection.js";
import { first } from "./core/walk.js";

const MANY = 100;
const FAR_ZOOM = 0.4;
const TOUCHING = 4;
const EDGE = 40;
const LEGIBLE = 0.7;

export function Canvas(props) {
  return (
    <ReactFlowProvider>
      <Flow {...props} />
    </ReactFlowProvider>
  );
}

const depthOf = (path) => (path.match(/\//g) ?? []).length;

/** Where each way out of a node stands on its right side: where its lines begin, the others in the gaps between. */
function portPlaces(node, lines) {
  const ports = node.ports?.out ?? [];
  const used = new Map();
  for (const line of lines) if (line.points.length && !used.has(line.port)) used.set(line.port, line.points[0][1] - node.y);
  const gaps = ports.map((_, index) => ((index + 0.5) * node.h) / ports.length);
  return ports.map((port) => {
    if (used.has(port.name)) return { ...port, y: used.get(port.name) };
    const taken = [...used.values()];
    const room = (y) => Math.min(...taken.map((other) => Math.abs(other - y)), node.h);
    const y = gaps.reduce((best, gap) => (room(gap) > room(best) + 0.01 ? gap : best), gaps[0]);
    used.set(port.name, y);
    return { ...port, y };
  });
}

/** React Flow's nodes and edges of a view, the same objects again for what has not changed. */
function makeTranslator(readonly) {
  let nodeCache = new Map();
  let edgeCache = new Map();
  return (view, selection) => {
    const leaving = new Map();
    for (const edge of Object.values(view.edges)) leaving.set(edge.from, [...(leaving.get(edge.from) ?? []), edge]);
    const nextNodes = new Map();
    const selected = new Set(selection.paths);
    const keep = (id, parts, build) => {
      const old = nodeCache.get(id);
      const entry = old && old.parts.length === parts.length && old.parts.every((part, index) => part === parts[index]) ? old : { parts, node: build() };
      nextNodes.set(id, entry);
      return entry.node;
    };
    const nodes = [];
    for (const group of Object.values(view.groups)) {
      nodes.push(
        keep(`group:${group.id}`, [group], () => ({
          id: `group:${group.id}`, type: "group-box", position: { x: group.x, y: group.y }, width: group.w, height: group.h, measured: { width: group.w, height: group.h }, data: { group }, zIndex: group.collapsed ? 2 : -2,
          draggable: !readonly && !group.collapsed, selectable: false, connectable: false, focusable: false, deletable: false, dragHandle: ".mn-group-title", handles: [], className: group.collapsed ? "" : "mn-open-group",
        })),
      );
    }
    for (const note of Object.values(view.notes)) {
      nodes.push(
        keep(`note:${note.id}`, [note], () => ({
          id: `note:${note.id}`, type: "note", position: { x: note.x, y: note.y }, width: note.w, height: note.h, measured: { width: note.w, height: note.h }, data: { note }, zIndex: -1,
          draggable: !readonly, selectable: false, connectable: false, focusable: false, deletable: false, handles: [],
        })),
      );
    }
    for (const node of Object.values(view.nodes)) {
      if (node.hidden) continue;
      const parent = view.nodes[node.scope];
      const isCurrent = selection.current === node.path;
      const isSelected = selected.has(node.path);
      const lines = leaving.get(node.path) ?? [];
      nodes.push(
        keep(node.path, [node, parent?.x, parent?.y, isSelected, isCurrent, ...lines], () => {
          const ports = portPlaces(node, lines);
          const isBox = node.container && !node.collapsed;
          return {
            id: node.path, type: "step", data: { node, ports, isCurrent, isSelected }, selected: isSelected,
            position: { x: node.x - (parent?.x ?? 0), y: node.y - (parent?.y ?? 0) }, ...(parent ? { parentId: parent.path } : {}),
            width: node.w, height: node.h, measured: { width: node.w, height: node.h }, zIndex: 3 * depthOf(node.path) + (isBox ? 0 : 2),
            draggable: !readonly, connectable: !readonly, focusable: false, deletable: false,
            handles: [
              { id: "in", type: "target", position: Position.Left, x: 0, y: 0, width: 1, height: node.h },
              ...ports.map((port) => ({ id: port.name, type: "source", position: Position.Right, x: node.w - 1, y: port.y - 1, width: 1, height: 2 })),
            ],
          };
        }),
      );
    }
    const nextEdges = new Map();
    const edges = [];
    for (const edge of Object.values(view.edges)) {
      const [from, to] = [view.nodes[edge.from], view.nodes[edge.to]];
      if (edge.hidden || !from || !to || from.hidden || to.hidden) continue;
      const isSelected = selection.edge === edge.id;
      const old = edgeCache.get(edge.id);
      const entry = old && old.edge === edge && old.from === from && old.to === to && old.isSelected === isSelected ? old : {
        edge, from, to, isSelected,
        made: {
          id: edge.id, type: "line", source: edge.from, sourceHandle: edge.port || from.ports?.out?.[0]?.name, target: edge.to, targetHandle: "in",
          data: { edge, from, to, isSelected }, selectable: false, focusable: false, deletable: false, reconnectable: isSelected && !readonly,
          zIndex: 3 * depthOf(edge.from) + 1,
        },
      };
      nextEdges.set(edge.id, entry);
      edges.push(entry.made);
    }
    nodeCache = nextNodes;
    edgeCache = nextEdges;
    return { nodes, edges };
  };
}

let shared = null;
/** What nodes and edges need besides their data; one canvas a page is what pages have, several work one by one. */
const useShared = () => shared;

const Step = memo(function Step({ data }) {
  const { store, actions, readonly } = useShared();
  const { node, ports, isCurrent, isSelected } = data;
  return (
    <>
      <Handle type="target" id="in" position={Position.Left} isConnectable={!readonly} isConnectableStart={false} className="mn-in" />
      <Card node={node} store={store} isCurrent={isCurrent} isSelected={isSelected} actions={actions} />
      {ports.map((port) => (
        <Handle
          key={port.name} type="source" id={port.name} position={Position.Right} isConnectable={!readonly} isConnectableEnd={false} className="mn-out"
          style={{ top: port.y }} data-port={port.name} title={readonly ? undefined : `${port.label}: drag to connect`}
        />
      ))}
    </>
  );
});

const GroupBox = memo(function GroupBox({ data: { group } }) {
  const { actions, readonly } = useShared();
  return (
    <div className={group.collapsed ? "mn-group mn-group-closed" : "mn-group"} data-testid={`group-${group.id}`}>
      <span className="mn-group-title">{group.title || group.id}</span>
      <button type="button" className="mn-fold nodrag" tabIndex={-1} hidden={readonly} onClick={() => actions.run("collapse", group.id)} aria-label={`${group.collapsed ? "Expand" : "Collapse"} the group ${group.title || group.id}`}>
        {group.collapsed ? `+${group.nodes.length}` : "–"}
      </button>
    </div>
  );
});

const Note = memo(function Note({ data: { note } }) {
  const { actions, readonly } = useShared();
  return (
    <div className="mn-note" data-testid={`note-${note.id}`} onDoubleClick={() => !readonly && actions.note(note.id)}>
      <p>{note.text}</p>
      {!readonly && <button type="button" className="mn-note-edit nodrag" tabIndex={-1} onClick={() => actions.note(note.id)}>Change</button>}
    </div>
  );
});

const stateOf = (store, node) => (store.state(node.path)?.state ?? node.state ?? "").split(":")[0];

/** Ways that were not taken fade; which way a finished step left by shows in what follows it. As in svg.py. */
function progressOf(edge, source, target) {
  if (source === "skipped" || target === "skipped") return "mn-unused";
  if (edge.closes || !["succeeded", "failed"].includes(source)) return "";
  return ["blocked", "cancelled"].includes(target) ? "" : "mn-taken";
}

const Line = memo(function Line({ id, data }) {
  const { store, actions, readonly, mode } = useShared();
  const from = useKey(store, `edge:${id}`, () => store.shiftOf(data.edge.from));
  const to = useKey(store, `edge:${id}`, () => store.shiftOf(data.edge.to));
  const isNear = useKey(store, `edge:${id}`, () => store.nearEdge === id);
  // From far away the cards say it alone.
  const isFar = useKey(store, "far", () => store.isFar);
  const isRun = mode === "run" && !isFar;
  const source = useKey(store, `state:${data.edge.from}`, () => (isRun ? stateOf(store, data.from) : ""));
  const target = useKey(store, `state:${data.edge.to}`, () => (isRun ? stateOf(store, data.to) : ""));
  const edge = useMemo(() => {
    if (!from && !to) return data.edge;
    const shifted = (node, by) => (by ? { ...node, x: node.x + by[0], y: node.y + by[1] } : node);
    return withEnds(data.edge, from, to, shifted(data.from, from), shifted(data.to, to));
  }, [data, from, to]);
  const path = useMemo(() => (edge.points.length < 2 ? "" : edge.back ? angles(edge.points) : curves(edge.points)), [edge]);
  if (!path) return null;
  const [x, y] = edge.points.at(-1);
  const middle = edge.points[Math.floor((edge.points.length - 1) / 2)];
  const after = edge.points[Math.floor((edge.points.length - 1) / 2) + 1];
  const classes = ["mn-line", edge.back && "mn-back", data.isSelected && "mn-is-selected", edge.problem && "mn-wrong", edge.diff && `mn-diff-${edge.diff}`, isRun && progressOf(edge, source, target)];
  return (
    <g className={classes.filter(Boolean).join(" ")} data-edge={edge.id} data-testid={`edge-${edge.from}-${edge.to}`}>
      <title>{[`${data.from.title} → ${data.to.title}`, edge.label || edge.port, edge.when && `when ${edge.when}`, edge.max_rounds && `at most ${edge.max_rounds} rounds`, edge.problem].filter(Boolean).join(", ")}</title>
      <path className="mn-hit react-flow__edge-interaction" d={path} />
      <path className="mn-edge" d={path} />
      <path className="mn-arrow" d={`M${x} ${y}l-7 -3.9v7.7z`} />
      {edge.label && edge.label_at && <text className="mn-edge-label" x={edge.label_at[0]} y={edge.label_at[1]}>{edge.label}</text>}
      {!readonly && (isNear || data.isSelected) && (
        <g className="mn-insert" transform={`translate(${(middle[0] + after[0]) / 2} ${(middle[1] + after[1]) / 2})`} onClick={(event) => { event.stopPropagation(); actions.add({ split: data.edge }); }} data-testid={`insert-${edge.from}-${edge.to}`}>
          <circle r="9" />
          <path d="M-4 0h8M0-4v8" />
        </g>
      )}
    </g>
  );
});

const nodeTypes = { step: Step, "group-box": GroupBox, note: Note };
const edgeTypes = { line: Line };

/** Where the picture stands at first: all of it if that can be read, else its beginning. */
function firstViewport(view, { width, height }) {
  const fits = Math.min((width - 2 * EDGE) / Math.max(view.width, 1), (height - 2 * EDGE) / Math.max(view.height, 1), 1);
  const zoom = Math.max(fits, LEGIBLE);
  const isWide = view.width * zoom > width - 2 * EDGE;
  const isHigh = view.height * zoom > height - 2 * EDGE;
  const entry = view.nodes[first(view)];
  const x = isWide ? EDGE - view.x * zoom : (width - view.width * zoom) / 2 - view.x * zoom;
  const y = isHigh && entry ? height / 2 - (entry.y + entry.h / 2) * zoom : (height - view.height * zoom) / 2 - view.y * zoom;
  return { x, y, zoom };
}

function Flow({ store, actions, readonly, mode, onReady, describedBy, size }) {
  shared = useMemo(() => ({ store, actions, readonly, mode }), [store, actions, readonly, mode]);
  const flow = useReactFlow();
  const start = useMemo(() => firstViewport(store.view, size), [store, size]);
  const view = useKey(store, "view", () => store.view);
  const selection = useKey(store, "selection", () => store.selection);
  const connecting = useKey(store, "connecting", () => store.connecting);
  const translate = useMemo(() => makeTranslator(readonly), [readonly]);
  const wanted = useMemo(() => translate(view, selection), [translate, view, selection]);
  const [nodes, setNodes] = useState(wanted.nodes);
  const frame = useRef(null);
  const drawn = useRef(wanted.nodes);
  const tooFar = useStore((state) => state.transform[2] < FAR_ZOOM);
  const isMany = nodes.length > MANY;
  const steps = useMemo(() => Object.values(view.nodes).filter((node) => !node.scope).length, [view]);
  useEffect(() => store.setFar(tooFar && isMany), [store, tooFar, isMany]);

  if (drawn.current !== wanted.nodes) {
    drawn.current = wanted.nodes;
    setNodes(wanted.nodes);
  }

  // The keyboard: one stop. Where the current step is out of sight and so out of the page, the frame holds the focus.
  const [isHeld, setHeld] = useState(true);
  const check = useCallback(() => {
    const current = store.selection.current;
    const there = Boolean(current && frame.current?.querySelector(`[id="${CSS.escape(`node-${current}`)}"]`));
    setHeld(there);
    return there;
  }, [store]);
  // Who comes by Tab goes on to the current step; a click on the paper and our own doing stay on the frame.
  const isMeant = useRef(false);
  const hadFocus = useRef(false);
  const holdFocus = useCallback(() => {
    isMeant.current = true;
    frame.current?.focus({ preventScroll: true });
    isMeant.current = false;
  }, []);
  useLayoutEffect(() => {
    // A card that goes, as into a group that is collapsed, takes the focus with it, and not every browser says so.
    const keep = () => {
      if (!check() && hadFocus.current && document.activeElement === document.body) holdFocus();
    };
    keep();
    const later = requestAnimationFrame(keep);
    return () => cancelAnimationFrame(later);
  }, [nodes, selection, check, holdFocus]);

  const canvas = useMemo(() => {
    const reveal = (path, { ifGone = false } = {}) => {
      // A step in a collapsed group is where the group stands.
      const group = store.view.nodes[path]?.hidden && Object.values(store.view.groups).find((one) => one.collapsed && one.nodes.includes(path));
      const node = group || store.view.nodes[path];
      const box = frame.current?.getBoundingClientRect();
      if (!node || !box?.width) return;
      const { x, y, zoom } = flow.getViewport();
      const [left, top, right, bottom] = [node.x * zoom + x, node.y * zoom + y, (node.x + node.w) * zoom + x, (node.y + node.h) * zoom + y];
      if (ifGone && right > 0 && bottom > 0 && left < box.width && top < box.height) return;
      const margin = 24;
      const isSeen = left >= margin && top >= margin && right <= box.width - margin && bottom <= box.height - margin;
      if (isSeen || (right - left > box.width && bottom - top > box.height)) return;
      flow.setCenter(node.x + Math.min(node.w, 300) / 2, node.y + Math.min(node.h, 200) / 2, { zoom: Math.max(zoom, 0.6), duration: 0 });
    };
    const seek = (path, tries) => {
      const element = frame.current?.querySelector(`[id="${CSS.escape(`node-${path}`)}"]`);
      if (element) element.focus({ preventScroll: true });
      else if (tries) requestAnimationFrame(() => seek(path, tries - 1));
      else holdFocus();
    };
    return {
      focus(path) {
        if (!path) return holdFocus();
        reveal(path);
        return seek(path, 12);
      },
      reveal,
      fit: () => flow.fitView({ padding: 0.06, maxZoom: 1, duration: 0 }),
      zoom: (way) => (way > 0 ? flow.zoomIn({ duration: 0 }) : flow.zoomOut({ duration: 0 })),
      centre() {
        const box = frame.current.getBoundingClientRect();
        return flow.screenToFlowPosition({ x: box.x + box.width / 2, y: box.y + box.height / 2 });
      },
      viewport: () => flow.getViewport(),
    };
  }, [flow, store, holdFocus]);
  useEffect(() => onReady(canvas), [canvas, onReady]);

  const onNodesChange = useCallback((changes) => {
    const kept = changes.filter((change) => change.type === "position" && change.position);
    if (kept.length) setNodes((now) => applyNodeChanges(kept, now));
    const picks = changes.filter((change) => change.type === "select" && store.view.nodes[change.id]);
    if (!picks.length) return;
    const paths = new Set(store.selection.paths);
    let current = store.selection.current;
    for (const { id, selected } of picks) {
      if (selected) {
        paths.add(id);
        current = id;
      } else paths.delete(id);
    }
    store.select({ paths: [...paths], current, edge: "" });
  }, [store]);

  // Dragging

  /** Where a dragged step is in the plane; in a container React Flow counts from the container. */
  const inPlane = useCallback((one) => {
    const parent = store.view.nodes[store.view.nodes[one.id]?.scope];
    return { x: one.position.x + (parent?.x ?? 0), y: one.position.y + (parent?.y ?? 0) };
  }, [store]);

  const onNodeDrag = useCallback((_event, _node, dragged) => {
    const shifts = new Map();
    const inside = {};
    for (const one of dragged) {
      const was = store.view.nodes[one.id];
      if (!was) continue;
      const at = inPlane(one);
      if (was.scope) inside[one.id] = at;
      const by = [at.x - was.x, at.y - was.y];
      for (const path of Object.keys(store.view.nodes)) if (path === one.id || path.startsWith(`${one.id}/`)) shifts.set(path, by);
    }
    store.setShifts(shifts);
    if (!Object.keys(inside).length) return;
    // To the right and downwards a container grows in the hand; it begins elsewhere only once the step is put down.
    const after = moved(store.view, inside).nodes;
    setNodes((now) => now.map((node) => {
      const [was, is] = [store.view.nodes[node.id], after[node.id]];
      if (!was?.container || was.collapsed || was === is) return node;
      const size = { width: Math.max(is.x + is.w - was.x, 0), height: Math.max(is.y + is.h - was.y, 0) };
      return { ...node, ...size, measured: size };
    }));
  }, [store, inPlane]);

  const onNodeDragStop = useCallback((_event, _node, dragged) => {
    const positions = {};
    const rounded = ({ x, y }) => ({ x: Math.round(x), y: Math.round(y) });
    for (const one of dragged) {
      const at = rounded(inPlane(one));
      if (one.type === "step" && store.view.nodes[one.id]) positions[one.id] = at;
      if (one.type === "note") actions.moveNote(one.data.note, at);
      if (one.type === "group-box") {
        const { group } = one.data;
        for (const path of outermost(group.nodes)) {
          const node = store.view.nodes[path];
          if (node) positions[path] = rounded({ x: node.x + one.position.x - group.x, y: node.y + one.position.y - group.y });
        }
      }
    }
    const isMoved = Object.entries(positions).some(([path, at]) => Math.abs(at.x - store.view.nodes[path].x) + Math.abs(at.y - store.view.nodes[path].y) >= 1);
    if (isMoved) actions.place(positions);
    store.setShifts(new Map());
    setNodes(drawn.current);
  }, [store, actions, inPlane]);

  // Connecting

  const isReconnecting = useRef(false);
  const onConnectStart = useCallback((_event, { nodeId, handleId, handleType }) => {
    // An edge taken at its end is led elsewhere, not drawn anew.
    if (isReconnecting.current || handleType !== "source" || !nodeId) return;
    store.setConnecting({ from: nodeId, port: handleId, targets: null });
    actions.targets(`${nodeId}.${handleId}`).then((targets) => {
      if (store.connecting?.from === nodeId) store.setConnecting({ from: nodeId, port: handleId, targets });
    });
  }, [store, actions]);

  const onConnectEnd = useCallback((event, state) => {
    const began = store.connecting;
    store.setConnecting(null);
    if (!began) return;
    const point = "changedTouches" in event ? event.changedTouches[0] : event;
    const under = document.elementFromPoint(point.clientX, point.clientY)?.closest(".react-flow__node")?.dataset.id;
    const to = state.toNode?.id ?? (store.view.nodes[under] ? under : null);
    if (to && to !== began.from) actions.connect(began.from, to, began.port);
    else if (!to) {
      const { x, y } = state.from ?? {};
      const at = flow.screenToFlowPosition({ x: point.clientX, y: point.clientY });
      if (x === undefined || Math.hypot(at.x - x, at.y - y) > 24) actions.add({ from: { path: began.from, port: began.port }, at: { x: at.x, y: at.y - 32 } });
    }
  }, [store, actions, flow]);

  const onReconnect = useCallback((old, next) => {
    actions.reconnect(old.data.edge, { from: next.source, port: next.sourceHandle, to: next.target });
  }, [actions]);

  const isValidConnection = useCallback((connection) => connection.source !== connection.target, []);

  useEffect(() => {
    const targets = connecting?.targets;
    for (const element of frame.current?.querySelectorAll(".mn-step") ?? []) {
      const target = targets?.get(element.dataset.nodeId);
      element.classList.toggle("mn-cannot", Boolean(targets && target && !target.allowed && element.dataset.nodeId !== connecting.from));
    }
  }, [connecting]);

  const held = isHeld ? -1 : 0;
  return (
    <div
      ref={frame} className={["mn-canvas-frame", tooFar && "mn-far", isMany && "mn-many", connecting && "mn-connecting", `mn-mode-${mode}`].filter(Boolean).join(" ")}
      role="application" aria-roledescription="graph" aria-label={`Graph, ${steps} ${steps === 1 ? "step" : "steps"}`} aria-describedby={describedBy} tabIndex={held}
      onKeyDown={(event) => actions.key(event)}
      onPaste={(event) => actions.pasted(event)}
      onPointerDownCapture={() => { isMeant.current = true; requestAnimationFrame(() => { isMeant.current = false; }); }}
      onFocus={(event) => { hadFocus.current = true; if (event.target === frame.current && !isMeant.current && !frame.current.contains(event.relatedTarget)) actions.entered(); }}
      onBlur={(event) => { hadFocus.current = !event.target.isConnected; if (!event.relatedTarget && !event.target.isConnected) holdFocus(); }}
    >
      <ReactFlow
        nodes={nodes} edges={wanted.edges} nodeTypes={nodeTypes} edgeTypes={edgeTypes} zIndexMode="manual"
        onNodesChange={onNodesChange} onNodeDrag={onNodeDrag} onNodeDragStop={onNodeDragStop} onSelectionDrag={(event, dragged) => onNodeDrag(event, null, dragged)} onSelectionDragStop={(event, dragged) => onNodeDragStop(event, null, dragged)}
        onNodeClick={(_event, node) => node.type === "step" && actions.clicked(node.id)}
        onNodeDoubleClick={(_event, node) => node.type === "step" && actions.open(node.id)}
        onEdgeClick={(_event, edge) => { store.select(onlyEdge(store.selection, edge.id)); holdFocus(); }}
        onEdgeMouseEnter={(_event, edge) => store.setNearEdge(edge.id)} onEdgeMouseLeave={() => store.setNearEdge("")}
        onEdgeDoubleClick={(_event, edge) => !readonly && actions.add({ split: edge.data.edge })}
        onPaneClick={() => { store.select({ paths: [], current: store.selection.current, edge: "" }); actions.left(); }}
        onConnectStart={onConnectStart} onConnectEnd={onConnectEnd} onReconnect={onReconnect}
        onReconnectStart={() => { isReconnecting.current = true; }} onReconnectEnd={() => { isReconnecting.current = false; }}
        isValidConnection={isValidConnection}
        onMoveEnd={check} onInit={check}
        nodesFocusable={false} edgesFocusable={false} disableKeyboardA11y deleteKeyCode={null} nodesConnectable={!readonly} nodesDraggable={!readonly}
        selectionKeyCode="Shift" multiSelectionKeyCode={["Control", "Meta"]} selectionMode={SelectionMode.Partial} nodeDragThreshold={TOUCHING} connectionRadius={28} autoPanOnNodeFocus={false}
        onlyRenderVisibleElements={isMany} minZoom={0.08} maxZoom={2} defaultViewport={start} elevateNodesOnSelect={false} elevateEdgesOnSelect={false}
        zoomOnDoubleClick={false} panOnScroll={false} preventScrolling
      >
        <Background gap={24} size={1} className="mn-dots" />
        <MiniMap pannable zoomable ariaLabel="Small map of the graph" nodeClassName={miniClass} nodeBorderRadius={6} />
      </ReactFlow>
    </div>
  );
}

const miniClass = (node) => (node.type === "step" ? (node.data.isSelected ? "mn-mini mn-mini-selected" : node.data.node.problems?.errors ? "mn-mini mn-mini-problem" : "mn-mini") : "mn-mini-none");

