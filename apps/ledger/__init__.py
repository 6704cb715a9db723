"""What happened, in order, never rewritten; and what touched the world."""
