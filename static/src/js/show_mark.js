// A wide picture of a difference begins where the first difference is.
export function showMark(figure) {
  const mark = figure.querySelector("[data-diff]");
  if (!mark) return;
  const [there, here] = [mark.getBoundingClientRect(), figure.getBoundingClientRect()];
  if (there.right > here.right) figure.scrollLeft += there.left - here.left - (here.width - there.width) / 2;
}
