"""The grid of runs: one setting a run, one table a question, and what comes out of them.

Needs the extra `experiments`. Imports the rooms before it.

    version        the version of the training's numbers, which a table and an address name
    settings       the parameters of one run, and its address
    cell           the notebook's parameters cell, written from them
    run            from a setting to its data, classifier, infill and measurements
    golden         tiny runs that say whether the version must be raised
    grid           the tables of settings, read from experiments/*.yaml
    committed      what the files of a table know of its runs, so that these need not be made again
    results        means over seeds, with intervals, as tables
    tables         reading the tables, or making them anew
    figures        the figures of the ablations, from their tables alone
    claims         the study's four claims, held against the tables
    claim_figures  the figures of the claims and of the few examples
    __main__       the command line

A run is executed by `notebooks/experiment.ipynb`; `experiments/Snakefile` knows which runs a table needs.
"""

from maskerlib.running.extras import require_extra

require_extra("experiments", "papermill", "yaml")

__all__: list[str] = []
