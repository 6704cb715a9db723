"""The slab every room stands on: errors, clock, ids, safe JSON, configuration, crash points."""
