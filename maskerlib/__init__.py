"""maskerlib: masking-based saliency, from one mask an image to trained maskers and metrics that judge them.

Images are float32 RGB in [0, 1], (B, 3, H, W); masks are (B, 1, H, W) in [0, 1], high = salient; boxes are
half-open pixels x0, y0, x1, y1. Import from the modules; each can be read on its own.

The method, in the order of Phang, Park and Geras (arXiv 2010.09750):

    masks                what a mask is, and how it blends an image with what hides it
    infills              what stands where the image is hidden
    objectives           what a mask should do: masked-in and masked-out terms, size, total variation
    optimise             one mask per image, by gradient descent (equation 1)
    inpainting           a network that guesses what a hole hides, to be trained and used as an infill
    masker               the network that draws a mask from a classifier's activations
    distributions        from its logits to a mask: a sigmoid, or a sample
    pool                 the earlier classifiers that judge a classifier-agnostic run
    step                 one step of training: every gradient, and no weight moved
    training             training a masker, FIX or CA (equation 2)
    references           maps that need no training, and the upper bound
    gradients            maps from the gradient of a logit

Measuring:

    boxes                from a mask to a box, and the overlap of two boxes
    metrics              OM, LE, F1, SM: one number an image
    components           every component at every threshold, in one pass
    curves               PxAP and MaxBoxAcc: one number a data set
    tally                what is kept of a method while images stream past
    evaluation           every metric, several methods, one table

Data and classifiers:

    samples              the one form that every data source takes
    glyphs               which drawings and photographs make up the scenes
    sprites              a drawing at any size and angle
    scene_drawing        one scene, and every pixel that belongs to its object
    scenes               the data set of scenes, rendered once
    photos               photographs without labels
    folder               the reader's own labelled images
    images               reading image files of every common kind
    classifiers          a network, the names of its layers, and what its input means
    zoo                  ready-made classifiers
    classifier_training  training one from scratch
    pretrained           the classifier and the maskers of the quickstart, ready to use

What carries it:

    config               one run's configuration, saved beside its weights
    loop                 the training loop that survives a kill
    finished             what a training leaves behind, so that it is loaded and not repeated
    augment              random crops and flips of a batch
    seeds                random streams without state
    precision            mixed precision and memory layout
    files                files that are whole or absent
    provenance           where a result comes from
    plots                figures
    parameters           the parameters of a notebook
    notebooks            running a notebook as a program
    intervals            how far a mean may lie from the truth
    experiments          the grid of runs: settings, tables, what comes out of them
    course               what only the notebooks need: checkers, explorers, figures
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
