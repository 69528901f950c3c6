"""maskerlib: masking-based saliency, from one mask an image to trained maskers and metrics that judge them.

Images are float32 RGB in [0, 1], (B, 3, H, W); masks are (B, 1, H, W) in [0, 1], high = salient; boxes are
half-open pixels x0, y0, x1, y1. Import from the modules; each can be read on its own.

The method, in the order of Phang, Park and Geras (arXiv 2010.09750):

    masks                what a mask is, and how it blends an image with what hides it
    infills              what stands where the image is hidden
    terms                each term of an objective
    objectives           what a mask should do: masked-in and masked-out terms, size, total variation
    optimise             one mask per image, by gradient descent (equation 1)
    inpainting           a network that guesses what a hole hides, to be trained and used as an infill
    masker               the network that draws a mask from a classifier's activations
    distributions        from its logits to a mask: a sigmoid, or a sample
    pool                 the earlier classifiers that judge a classifier-agnostic run
    step                 one step of training: every gradient, and no weight moved
    training             training a masker, FIX or CA (equation 2)
    references           maps that need no training, and the upper bound
    attributions         from signed attributions to a map
    gradients            maps from the gradient of a logit
    integrated           integrated gradients, and what their sum misses
    guided               a copy of a classifier whose every ReLU guided backprop finds
    explain              one photograph explained, with its picture

Measuring:

    boxes                from a mask to a box, and the overlap of two boxes
    metrics              OM, LE, F1, SM: one number an image
    components           every component at every threshold, in one pass
    contours             the boxes of wsolevaluation
    curves               PxAP and MaxBoxAcc: one number a data set
    tally                what is kept of a method while images stream past
    asking               how a method is asked, and what it must answer
    saved_maps           maps drawn before, in an array or in files
    evaluation           every metric, several methods, one table

Data:

    samples              the one form that every data source takes
    indices              positions and sizes that a source can be asked for
    glyphs               which drawings and photographs make up the scenes
    sprites              a drawing at any size and angle
    scene_drawing        one scene, and every pixel that belongs to its object
    scenes               the data set of scenes, rendered once
    file_source          sources of files: fitted for a batch, cropped from their own pixels
    photos               photographs without labels
    folder               the reader's own labelled images
    folder_layout        where a folder keeps its classes, masks and boxes
    box_table            boxes.csv
    torchvision_source   a data set of torchvision as a source
    images               reading image files of every common kind
    mask_files           reading masks; label images and trimaps are refused
    framing              scaling and cutting, with boxes and masks
    listing              what lies in a folder: images, folders, what is left out

Classifiers:

    classifiers          a network, the names of its layers, and what its input and output mean
    networks             what any network is asked for: to stand still, to show what it is wrapped in
    reading              what the layers of a network return, as maps
    layouts              where the pixels are in what a layer returns
    candidates           which layers of a network can be read
    zoo                  ready-made classifiers, by name
    libraries            the networks of torchvision and timm
    classifier_training  training one from scratch
    pretrained           the classifier and the maskers of the quickstart, ready to use

What carries it:

    doors                what every entry asks of images, targets, labels and classifiers
    checks               what a value must be
    config               one run's configuration, saved beside its weights
    loop                 the training loop that survives a kill
    finished             what a training leaves behind, so that it is loaded and not repeated
    interruption         Ctrl-C in a long loop
    progress             how far a long loop is
    processes            which processes live, and folders to themselves
    augment              random crops and flips of a batch
    seeds                random streams without state
    precision            mixed precision and memory layout
    threads              how processor threads wait for each other
    files                files that are whole or absent
    provenance           where a result comes from
    plots                figures
    parameters           the parameters of a notebook
    kernels              the kernels that notebooks run in
    watch                what a running notebook is doing: section, step, time left
    notebooks            running a notebook as a program
    intervals            how far a mean may lie from the truth
    experiments          the grid of runs: settings, tables, what comes out of them
    course               what only the notebooks need: checkers, explorers, figures
    __main__             the command line
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
