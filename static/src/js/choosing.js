// What only the pages need on which a form's choices bring another form.
import { keepTyped } from "./keep_typed.js";
import { sureChoice } from "./sure_choice.js";

for (const form of document.querySelectorAll("[data-choosing]")) {
  keepTyped(form);
  sureChoice(form);
}
