"""One module per section of the rail. A view parses, calls one service or selector, and renders."""
