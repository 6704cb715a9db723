"""What makes a well-formed document one that can run and keeps its own contract. One subject a module."""
