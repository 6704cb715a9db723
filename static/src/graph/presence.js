// Who else has the draft open: their names in the head, and an event for whatever shows where they are.

/** What the socket tells, without the person looking; fills #presence and says mn:presence {people}. */
export function othersHere(message, me) {
  const others = (message.people ?? []).filter((person) => String(person.id) !== String(me ?? ""));
  const place = document.getElementById("presence");
  place?.replaceChildren(
    ...others.map((person) => {
      const chip = document.createElement("span");
      chip.className = `mn-chip mn-colour-${person.colour ?? 0}`;
      chip.textContent = person.name;
      return chip;
    }),
  );
  document.dispatchEvent(new CustomEvent("mn:presence", { detail: { people: others } }));
  return others;
}
