// A form whose choices bring another form anew: what somebody has typed there stays where the new one asks the same.
const isChanged = (field) => {
  if (field.type === "file") return field.files.length > 0;
  if (field.type === "checkbox") return field.checked !== field.defaultChecked;
  if (field.tagName === "SELECT") return [...field.options].some((option) => option.selected !== option.defaultSelected);
  return field.value !== field.defaultValue;
};

function put(fresh, old) {
  if (fresh.type === "file") fresh.files = old.files;
  else if (fresh.type === "checkbox") fresh.checked = old.checked;
  else if (fresh.tagName !== "SELECT" || [...fresh.options].some((option) => option.value === old.value)) fresh.value = old.value;
}

export function keepTyped(form) {
  const typed = new Map();
  const isOurs = ({ detail }) => detail.requestConfig?.elt === form;
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (!isOurs(event)) return;
    for (const field of event.detail.target.querySelectorAll(".field :is(input:not([type=hidden]), textarea, select)")) {
      if (isChanged(field)) typed.set(field.id, field);
      else typed.delete(field.id);
    }
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (!isOurs(event)) return;
    // What has no place just now waits: a choice that is half made asks for nothing.
    for (const old of typed.values()) {
      const fresh = document.getElementById(old.id);
      if (fresh?.type === old.type && fresh.name === old.name) put(fresh, old);
    }
  });
}
