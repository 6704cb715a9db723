// A dialog that is made for one question. It gives the focus back in the moment it closes: the browser's own
// `close` comes a little later, and a key pressed in between would go to a dialog that is no longer there.

/** Show it. Returns leave(value): close it, with what was said. `left` is called once, after the focus is back,
 * however it was closed; Escape and a click beside it close it with "". */
export function showPassing(dialog, left) {
  const before = document.activeElement;
  let isLeft = false;
  const leave = (value = "") => {
    if (isLeft) return;
    isLeft = true;
    dialog.close(value);
    dialog.remove();
    if (before?.isConnected) before.focus({ preventScroll: true });
    left(value);
  };
  dialog.addEventListener("click", (event) => event.target === dialog && leave());
  // The page has keys of its own; what is typed here is not for it.
  dialog.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key !== "Escape" || event.isComposing || event.defaultPrevented) return;
    event.preventDefault();
    leave();
  });
  // A browser has other ways to close one, such as a phone's way back.
  dialog.addEventListener("close", () => leave(dialog.returnValue));
  document.body.append(dialog);
  dialog.showModal();
  return leave;
}
