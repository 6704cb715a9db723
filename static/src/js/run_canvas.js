// The picture of a run on the canvas, when somebody asks for it: the server's picture stays in the page, out of
// sight, and goes on bringing the states; the canvas shows them. Its bundle is fetched by this button only.
export function runCanvas(button) {
  const picture = () => document.getElementById("run-picture");
  let graph = null;
  let wanted = "";

  button.hidden = false;
  button.addEventListener("click", async () => {
    if (graph) return close();
    button.disabled = true;
    try {
      style(button.dataset.css);
      await import(button.dataset.js);
      open();
    } catch (error) {
      console.error(error);
      button.textContent = "The canvas cannot be loaded";
      return;
    }
    button.disabled = false;
  });

  function open() {
    graph = Object.assign(document.createElement("mn-graph"), { id: "run-graph", className: "run-canvas" });
    graph.setAttribute("mode", "run");
    graph.dataset.src = button.dataset.src;
    graph.dataset.testid = "canvas";
    picture().before(graph);
    document.documentElement.classList.add("has-run-canvas");
    button.textContent = button.dataset.close;
    graph.addEventListener("mn:mounted", show);
    graph.addEventListener("mn:select", ({ detail }) => choose(detail.nodes[0]));
  }

  function close() {
    graph.remove();
    graph = null;
    document.documentElement.classList.remove("has-run-canvas");
    button.textContent = button.dataset.open;
  }

  function show() {
    if (!graph?.store) return;
    const states = {};
    for (const drawn of picture()?.querySelectorAll(".mn-node[data-state]") ?? []) {
      const reason = [...drawn.classList].find((name) => name.startsWith("mn-reason-"))?.slice("mn-reason-".length);
      const words = drawn.querySelector(".mn-state-word")?.textContent ?? "";
      const state = drawn.dataset.state + (reason ? `:${reason}` : "");
      const path = drawn.dataset.nodePath ?? drawn.dataset.nodeId;
      if (graph.store.view.nodes[path]) states[path] = { state, words, step: drawn.dataset.stepPath };
    }
    graph.setStates(states);
  }

  function choose(path) {
    const step = path && graph.store.state(path)?.step;
    if (!step || step === wanted) return;
    wanted = step;
    const address = `${location.pathname}?step=${encodeURIComponent(step)}`;
    // Of the canvas, so that the panel knows it for somebody's choice (step_panel.js).
    window.htmx.ajax("GET", address, { source: graph, target: "#step-panel", swap: "outerHTML" }).finally?.(() => (wanted = ""));
  }

  document.addEventListener("htmx:wsAfterMessage", show);
}

function style(address) {
  if (!address || document.querySelector(`link[href="${CSS.escape(address)}"]`)) return;
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: address }));
}
