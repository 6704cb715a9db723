"""What makes a well-formed document a blueprint that can run and keeps its own contract. One subject a module."""
