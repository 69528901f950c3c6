"""What carries everything else: checks, files, seeds, threads. May be imported by every room, and imports none.

    checks        what a value must be
    registry      what can be asked for by name
    files         files that are whole or absent
    processes     which processes live, and folders to themselves
    seeds         random streams without state
    precision     mixed precision and memory layout
    threads       how processor threads wait for each other
    interruption  Ctrl-C in a long loop
    progress      how far a long loop is
    provenance    where a result comes from
"""

__all__: list[str] = []
