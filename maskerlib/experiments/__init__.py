"""The grid of runs: one setting a run, one table a question, and what comes out of them.

    settings    the parameters of one run, and its address
    code        which training code a result comes from
    run         from a setting to its data, classifier, infill and measurements
    grid        the tables of settings, read from experiments/*.yaml
    results     means over seeds, with intervals, as tables
    __main__    the command line
"""
