"""What carries everything else: checks, files, seeds, threads. May be imported by every room, and imports none.

    checks        what a value must be
    literals      values read from text
    registry      what can be asked for by name
    processes     which processes live, and folders to themselves
    files         files that are whole or absent
    distributed   several processes on one run, as torchrun starts them
    seeds         random streams without state
    precision     mixed precision and memory layout
    devices       a device by its name
    extras        what `pip install maskerlib` alone leaves out
    threads       how processor threads wait for each other
    interruption  Ctrl-C in a long loop
    progress      how far a long loop is
    provenance    where a result comes from
"""

__all__: list[str] = []
