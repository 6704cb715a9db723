// The panel of the selected step follows its row: when the row's mark changes, the panel is asked for again.
export function stepPanel(panel) {
  document.addEventListener("htmx:wsAfterMessage", () => {
    const current = document.getElementById("step-panel");
    if (!current || current.matches(":has(:focus-within), :focus-within")) return;
    const row = document.querySelector(`.timeline-row[data-step-path="${CSS.escape(current.dataset.stepPath ?? "")}"]`);
    const chosen = current.dataset.chosen === "yes";
    const wanted = document.querySelector(".timeline[data-focus-path]")?.dataset.focusPath ?? "";
    const stale = row && row.dataset.mark !== current.dataset.mark;
    if (stale || (!chosen && wanted && wanted !== current.dataset.stepPath)) {
      const address = new URL(location.href);
      if (!chosen) address.searchParams.delete("step");
      window.htmx.ajax("GET", address.href, { target: "#step-panel", swap: "outerHTML" });
    }
  });
}
