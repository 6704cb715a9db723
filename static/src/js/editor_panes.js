// On a narrow screen one pane shows at a time; choosing a step opens its settings.
export function editorPanes(editor) {
  const show = (name) => {
    editor.dataset.pane = name;
    for (const button of editor.querySelectorAll("[data-show-pane]")) {
      button.setAttribute("aria-pressed", String(button.dataset.showPane === name));
    }
  };
  editor.addEventListener("click", (event) => {
    const button = event.target.closest("[data-show-pane]");
    if (button) show(button.dataset.showPane);
  });
  document.addEventListener("mn:open", () => show("inspector"));
}
