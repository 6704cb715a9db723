"""`python -m mirrorneuron.cli` is `mn`."""

from mirrorneuron.cli import main

main(prog_name="mn")
