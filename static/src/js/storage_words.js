// Why the server could not store what was sent, by the code its answer carries in MN-Problem.
const REASONS = {
  storage_full: "the server's disk is full",
  read_only: "the database takes no changes",
  database: "the database cannot be used",
};

/** In words; "" for every other answer. code: as the header has it, or null. */
export const notStored = (code) => (REASONS[code] ? `not saved: ${REASONS[code]}; kept here, tried again` : "");
