// What only the editor's pages need; the canvas and the YAML view bring bundles of their own.
import { editorPanes } from "./editor_panes.js";

document.documentElement.classList.add("scripted");
for (const element of document.querySelectorAll('[data-controller~="editor-panes"]')) editorPanes(element);
