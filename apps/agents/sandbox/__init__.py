"""Python written in a blueprint, run where it can reach nothing: never in this process."""
