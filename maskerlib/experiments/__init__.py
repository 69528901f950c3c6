"""The grid of runs: one setting a run, one table a question, and what comes out of them.

    settings    the parameters of one run, and its address
    code        which training code a result comes from
    run         from a setting to its data, classifier, infill and measurements
    grid        the tables of settings, read from experiments/*.yaml
    results     means over seeds, with intervals, as tables
    tables      reading the tables, or making them anew
    figures     the figures of the ablations, from their tables alone
    claims      the study's four claims, held against the tables
    claim_figures  the figures of the claims and of the few examples
    __main__    the command line

A run is executed by `notebooks/experiment.ipynb`; `experiments/Snakefile` knows which runs a table needs.
"""

__all__: list[str] = []
