"""maskerlib: masking-based saliency, from one mask an image to trained maskers and metrics that judge them.

Images are float32 RGB in [0, 1], (B, 3, H, W); masks are (B, 1, H, W) in [0, 1], high = salient; boxes are half-open pixels
x0, y0, x1, y1. What most programs need is here: `from maskerlib import Folder, classifier_named, optimise_mask`; nothing is
imported before it is used. All else is in its room, and each room's docstring is its map. A room imports those above it alone:

    running      what carries everything else: checks, files, seeds, threads
    data         samples, and the sources that yield them: folders, photographs, scenes
    classifiers  any network, the names of its layers, and what its input and output mean
    training     what every training shares, and the training of a classifier
    masking      what a mask is and what it should do (section 3 of Phang, Park and Geras, arXiv 2010.09750)
    masker       the network that draws masks from a classifier's activations, and its training, FIX or CA (equation 2)
    methods      every way to draw a map, behind one protocol; among them one mask an image (equation 1)
    metrics      what a map is worth, and `evaluate`
    plots        figures
    explain      one photograph explained, with its picture
    notebooks    running a notebook as a program
    experiments  the grid of runs: settings, tables, what comes out of them
    course       what only the notebooks need: checkers, explorers, figures
    __main__     the command line

One batch on its way, which is also an order to read in. `training.loop` draws the numbers of its images and asks the source for
them (`data.samples`), cropped from its files' own pixels where it has files (`data.augment`). In `masker.training` all other
sources are cropped, and, where the classifier learns as well (CA), the pool says which one judges (`masker.pool`). Then
`masker.step.compute_gradients`, one line of the study after another: the classifier looks at the clean images and keeps what its
layers return (`classifiers.classifier`, `classifiers.reading`); the masker makes logits of that (`masker.network`), and
`masking.distributions` a mask of those; `masking.infills` says what stands where it hides; `masking.objectives` blends the two
views (`masking.masks`), shows them to the judge, and leaves a gradient for every term (`masking.terms`). Back in
`masker.training` the weights move, and `training.loop` keeps a checkpoint now and then, where it has a folder. What comes out,
`masker.trained.Trained`, is a method like any other: `metrics.evaluation.evaluate` shows it each batch (`methods.asking`), lets
every metric look at the masks and the boxes that fit them (`metrics.evidence`, `metrics.boxes`, `metrics.registry`), and keeps
what a data set needs (`metrics.tally`, `metrics.curves`).
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
