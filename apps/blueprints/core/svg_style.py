"""The style sheet of the pictures: the text of `static/src/css/graph.css`, for pictures that travel alone.

A test keeps the two the same. Only classes are styled; a picture carries no style of its own.
"""

STYLE = """\
/* The picture of a graph, wherever it is shown. Colours come from tokens.css; the second value is for
   pictures that travel alone. Every state has a shape and a word besides its colour. A test keeps this equal
   to apps/blueprints/core/svg_style.py. */
@layer components {
  .mn-graph-picture {
    --g-paper: var(--paper, light-dark(#f7f7f3, #131519));
    --g-card: var(--surface, light-dark(#ffffff, #1b1e23));
    --g-sunken: var(--sunken, light-dark(#f0f0ea, #16181c));
    --g-line: var(--line, light-dark(#e0e0d8, #2d3137));
    --g-edge: var(--line-strong, light-dark(#83867f, #7a808a));
    --g-ink: var(--ink, light-dark(#1a1c20, #e8eaed));
    --g-soft: var(--ink-soft, light-dark(#565a62, #a6acb6));
    --g-done: var(--done, light-dark(#1d6b41, #6fcb95));
    --g-wait: var(--wait, light-dark(#875400, #efb54c));
    --g-fail: var(--fail, light-dark(#ad241c, #ff938a));
    --g-doubt: var(--doubt, light-dark(#70309d, #d3a0ff));
    --g-busy: var(--busy, light-dark(#2355c5, #8cadff));
    --g-state: var(--g-edge);

    display: block;
    direction: ltr;
    max-width: 100%;
    height: auto;
    font-family: var(--sans, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif);
  }

  .mn-alone { color-scheme: light dark; }
  .mn-canvas { fill: var(--g-paper); }

  .mn-edge { fill: none; stroke: var(--g-edge); stroke-width: 1.5; }
  .mn-arrow { fill: var(--g-edge); stroke: none; }
  .mn-edge-label { fill: var(--g-soft); font-size: 11px; }
  .mn-back .mn-edge { stroke-dasharray: 5 4; }
  .mn-taken .mn-edge { stroke: var(--g-done); stroke-width: 2; }
  .mn-taken .mn-arrow { fill: var(--g-done); }
  .mn-unused { opacity: 0.4; }

  .mn-card { fill: var(--g-card); stroke: var(--g-line); stroke-width: 1.25; }
  .mn-title { fill: var(--g-ink); font-size: 13px; font-weight: 600; }
  .mn-kind { fill: var(--g-soft); font-size: 11px; }
  .mn-state-word { fill: var(--g-state); font-size: 11px; font-weight: 600; }
  .mn-badge {
    fill: none; stroke: var(--g-soft); stroke-width: 1.5; stroke-linecap: round; stroke-linejoin: round;
  }
  .mn-badge-field { fill: var(--g-sunken); }
  .mn-container > .mn-card { fill: var(--g-sunken); stroke: var(--g-edge); }

  .mn-boundary-human .mn-badge { stroke: var(--g-wait); }
  .mn-boundary-external_write .mn-badge { stroke: var(--g-fail); }
  .mn-boundary-model .mn-badge { stroke: var(--g-busy); }
  .mn-thumbnail .mn-card { stroke: var(--g-edge); }
  .mn-thumbnail .mn-boundary-human > .mn-card { stroke: var(--g-wait); stroke-width: 2; }
  .mn-thumbnail .mn-boundary-external_write > .mn-card { stroke: var(--g-fail); stroke-width: 2; }

  .mn-state-running { --g-state: var(--g-busy); }
  .mn-state-ready { --g-state: var(--g-busy); }
  .mn-state-waiting { --g-state: var(--g-wait); }
  .mn-state-succeeded { --g-state: var(--g-done); }
  .mn-state-failed { --g-state: var(--g-fail); }
  .mn-state-in_doubt { --g-state: var(--g-doubt); }
  .mn-state-cancelled { --g-state: var(--g-soft); }
  .mn-state-skipped { --g-state: var(--g-soft); }

  .mn-state-running > .mn-card,
  .mn-state-waiting > .mn-card,
  .mn-state-failed > .mn-card,
  .mn-state-in_doubt > .mn-card { stroke: var(--g-state); stroke-width: 2; }
  .mn-state-ready > .mn-card,
  .mn-state-succeeded > .mn-card { stroke: var(--g-state); }
  .mn-state-cancelled > .mn-card,
  .mn-state-skipped > .mn-card { stroke: var(--g-edge); stroke-dasharray: 5 4; }
  .mn-state-skipped .mn-title,
  .mn-state-cancelled .mn-title { fill: var(--g-soft); font-weight: 400; }
  .mn-mark-field { fill: var(--g-state); }
  .mn-mark {
    fill: none; stroke: var(--g-card); stroke-width: 2; stroke-linecap: round; stroke-linejoin: round;
  }

  .mn-diff-added { --g-state: var(--g-done); }
  .mn-diff-removed { --g-state: var(--g-fail); }
  .mn-diff-changed { --g-state: var(--g-wait); }
  .mn-diff-added > .mn-card,
  .mn-diff-changed > .mn-card { stroke: var(--g-state); stroke-width: 2; }
  .mn-diff-removed > .mn-card { stroke: var(--g-state); stroke-width: 2; stroke-dasharray: 5 4; }
  .mn-diff-removed .mn-title { fill: var(--g-soft); font-weight: 400; }
  .mn-line.mn-diff-added .mn-edge,
  .mn-line.mn-diff-changed .mn-edge { stroke: var(--g-state); stroke-width: 2.5; }
  .mn-line.mn-diff-removed .mn-edge { stroke: var(--g-state); stroke-width: 2; stroke-dasharray: 2 4; }
  .mn-line.mn-diff-added .mn-arrow,
  .mn-line.mn-diff-changed .mn-arrow,
  .mn-line.mn-diff-removed .mn-arrow { fill: var(--g-state); }

  a.mn-link:focus-visible { outline: none; }
  a.mn-link:focus-visible .mn-card {
    stroke: var(--accent, var(--g-busy)); stroke-width: 3; stroke-dasharray: none;
  }
  a.mn-link:hover .mn-card { fill: var(--hover, var(--g-sunken)); }
  .mn-selected > .mn-card { stroke: var(--accent, var(--g-busy)); stroke-width: 3; }

  @media (forced-colors: active) {
    .mn-card { fill: Canvas; stroke: CanvasText; }
    .mn-edge, .mn-badge { stroke: CanvasText; }
    .mn-title, .mn-kind, .mn-state-word, .mn-edge-label, .mn-arrow { fill: CanvasText; }
    .mn-mark-field { fill: CanvasText; }
    .mn-mark { stroke: Canvas; }
  }

  @media print {
    .mn-unused { opacity: 0.6; }
  }
}
"""
