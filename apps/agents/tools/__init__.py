"""What a step may do to the world or read from it: the built-in tools and the ones a blueprint declares."""
