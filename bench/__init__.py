"""Benchmarks: what the engine costs, beside what the database alone can do, in the same run.

`mn bench` measures on the database of its environment, in a workspace of its own that it removes again.
Counts (commits, statements, bytes) carry no noise; times do, so they come as medians with their spread.
"""
