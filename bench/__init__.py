"""Benchmarks: what the engine costs, beside what the database alone can do and what others do, in one run.

    python -m mirrorneuron.cli bench      the conductor: no Django, no engine; it only starts and reads
        ├── bench.engine                  our engine and its worker in one process, as `mn up` runs them
        ├── bench.worker                  a worker of its own, behind Redis
        └── bench.peers.*                 the others, from their own environment

Every subject is a process of its own that obeys one line of JSON at a time (`child`, `subject`), so that all
are measured from outside by the same counters (`measure`). The database is made for the benchmark and
dropped afterwards (`databases`); nothing of the installation is touched. One module per workload: `w1` to
`w7`. Counts (commits, statements, bytes) carry no noise; times do, so they come as medians with their spread.
"""
