"""How things are said and drawn on the pages: words, shapes, bars. Plain Python."""
