// The picture is drawn at a readable size and may be wider than its frame: the selected step is brought into view.
export function followStep(frame) {
  const step = frame.querySelector(".mn-selected");
  if (!step || frame.scrollWidth <= frame.clientWidth) return;
  const box = step.getBoundingClientRect();
  const room = frame.getBoundingClientRect();
  frame.scrollLeft += box.left + box.width / 2 - (room.left + room.width / 2);
}
