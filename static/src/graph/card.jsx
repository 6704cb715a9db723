// A step as it is drawn: badge, title, kind, state, problems. Knows no library; its own state is drawn on its own.
import { memo, useCallback, useSyncExternalStore } from "react";
import { commentsAt, commentWords } from "./core/comments.js";
import { BADGES, markOf, wordOf } from "./core/signs.js";
import { span } from "./core/span.js";

export function useKey(store, key, read) {
  const subscribe = useCallback((listener) => store.subscribe(key, listener), [store, key]);
  return useSyncExternalStore(subscribe, read);
}

const money = (value) => `$${value < 0.01 ? value.toFixed(4) : value.toFixed(2)}`;
const DIFF = { added: "added", removed: "removed", changed: "changed" };

export const Card = memo(function Card({ node, store, isCurrent, isSelected, actions }) {
  const live = useKey(store, `state:${node.path}`, () => store.state(node.path));
  const isFar = useKey(store, "far", () => store.isFar);
  const person = useKey(store, `person:${node.path}`, () => store.personAt(node.path));
  const state = live?.state ?? node.state ?? "";
  const word = live?.words ?? wordOf(state) ?? "";
  const { errors = 0, warnings = 0, first = "" } = node.problems ?? {};
  const isStale = live?.stale ?? node.stale;
  const isPinned = live?.pinned ?? node.pinned;
  const took = live?.seconds ?? node.seconds;
  const cost = live?.cost_usd ?? node.cost_usd;
  const spent = [took != null && span(took), cost ? money(cost) : ""].filter(Boolean).join(" · ");
  const comments = commentsAt(useKey(store, "comments", () => store.comments), node);
  const says = [
    node.title, node.subtitle, node.boundary_words, node.container && (node.collapsed ? `collapsed, ${node.children ?? 0} steps inside` : "container"), word, spent,
    node.diff && (node.renamed || DIFF[node.diff]), isPinned && "pinned", isStale && "changed since its test", first && `to fix: ${first}`, comments && commentWords(comments.count), person && `${person.name} is here`,
  ];
  const classes = [
    "mn-step", `mn-boundary-${node.boundary}`, state && `mn-state-${state.split(":")[0]}`, node.container && !node.collapsed && "mn-box",
    isSelected && "mn-is-selected", node.diff && `mn-diff-${node.diff}`, person && `mn-person mn-colour-${person.colour ?? 0}`, isStale && "mn-stale",
  ];
  const mark = markOf(state) || (node.diff ? markOf(node.diff) : "");
  return (
    <>
      <div
        className={classes.filter(Boolean).join(" ")}
        id={`node-${node.path}`}
        role="button"
        tabIndex={isCurrent ? 0 : -1}
        aria-pressed={isSelected}
        aria-label={says.filter(Boolean).join(", ")}
        data-testid={`node-${node.path}`}
        data-node-id={node.path}
        data-state={state.split(":")[0] || undefined}
        data-kind={node.kind}
        data-diff={node.diff}
        title={first || node.renamed || undefined}
        onFocus={() => actions.focused(node.path)}
      >
        {!isFar && <span className="mn-step-badge"><svg viewBox="0 0 16 16" aria-hidden="true"><path className="mn-badge" d={BADGES[node.boundary] ?? BADGES.deterministic} /></svg></span>}
        <span className="mn-step-words">
          <span className="mn-step-title">{node.title}</span>
          {!isFar && <span className="mn-step-kind">
            <span>{node.renamed ?? node.subtitle}</span>
            {word && <b className="mn-step-state">{word}</b>}
            {!word && spent && <span className="mn-step-spent">{spent}</span>}
          </span>}
        </span>
        {isPinned && <span className="mn-step-pin">pinned</span>}
        {isStale && <span className="mn-step-pin mn-step-stale">changed since its test</span>}
        {(errors > 0 || warnings > 0) && <span className={errors ? "mn-step-problem" : "mn-step-problem mn-warning"} data-testid="problem-mark">{errors || "!"}</span>}
        {mark && <svg className="mn-step-mark" viewBox="-9 -9 18 18" aria-hidden="true"><circle className="mn-mark-field" r="8.5" /><path className="mn-mark" d={mark} /></svg>}
        {person && <span className="mn-step-person">{person.name}</span>}
      </div>
      {comments && (
        <a className="mn-step-comments nodrag" tabIndex={-1} href={comments.url} data-testid={`comments-${node.path}`} aria-label={`${commentWords(comments.count)} on ${node.title}`}>
          <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M2.5 3.5h11v7.5H7.5L4.5 13.5V11h-2z" /></svg>
          {comments.count}
        </a>
      )}
      {node.container && (
        <button type="button" className="mn-fold nodrag" tabIndex={-1} onClick={() => actions.run("collapse", node.path)} aria-label={`${node.collapsed ? "Expand" : "Collapse"} ${node.title}`} hidden={actions.readonly}>
          {node.collapsed ? `+${node.children ?? ""}` : "–"}
        </button>
      )}
    </>
  );
});
