"""One file per resource: parse, call one service or selector, render."""
