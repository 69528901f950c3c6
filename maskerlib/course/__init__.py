"""What only the notebooks need: their setting up, their figures, their explorers, and the checkers of their exercises.

Needs the extra `notebooks`. Imports the rooms before it.

    session              the profile, the device and the folders of one notebook
    grading              an answer goes in, a verdict and a hint come out
    explorer_pictures    what the explorers show, as plain functions
    explorers            three widgets: of the mask, of the threshold, of the layers
    gradient_figures     maps that are asked twice, promises against outcomes
    mask_figures         masks remedy by remedy, and intervals of their success
    objective_figures    the terms of the objective, drawn
    architecture         the masker drawn from its module
    setup_figure         the training setup, with what one image makes of it
    metric_figures       thresholds, curves and rankings, drawn
    shortcut             scenes with a mark that gives the class away
    agnostic_figures     a classifier and its masks, before and after
    ablations            the results of a table of experiments, committed or made anew

The checkers of notebook 01 are in `exercises_01`, one function an exercise, and so on.
"""

from maskerlib.running.extras import require_extra

require_extra("notebooks", "ipywidgets")

__all__: list[str] = []
