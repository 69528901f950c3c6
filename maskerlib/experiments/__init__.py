"""The grid of runs: one setting a run, one table a question, and what comes out of them.

Needs the extra `experiments`. Imports the rooms before it.

    version         the version of the training's numbers, which a table and an address name
    named           what a run can measure, by name: trainings, methods, the truth
    choices         what the parameters of a run choose among
    settings        the parameters of one run, and its address
    cell            the notebook's parameters cell, written from them
    real_data       the images of a run that are no scenes
    run             from a setting to its data, classifier, infill and method
    measuring       the maps of its method, and what is measured of them
    golden          tiny runs that say whether the version must be raised
    grid            the tables of settings, read from experiments/*.yaml
    configs         the same tables on other data
    packing         finished runs in one file, for another machine
    committed       what the files of a table know of its runs, so that these need not be made again
    results         means over seeds, with intervals, as tables
    tables          reading the tables, or making them anew
    choosing        which of the options that were tried a method is measured with
    method_figures  quality against cost, and methods side by side on photographs
    rankings        do two metrics put the methods in the same order?
    figures         the figures of the ablations, from their tables alone
    holm            several comparisons decided together
    claims          the study's claims, held against the tables
    claim_figures   the figures of the claims and of the few examples
    __main__        the command line

A run is executed by `notebooks/experiment.ipynb`; `experiments/Snakefile` knows which runs a table needs.
"""

from maskerlib.running.extras import require_extra

require_extra("experiments", "papermill", "yaml")

__all__: list[str] = []
