"""The masker of the study: a network that draws masks from a classifier's activations, and its training (equation 2).

Imports the rooms before it.

    network     the network
    config      one run's configuration, saved beside its weights
    pool        the earlier classifiers that judge a classifier-agnostic run
    step        one step of training: every gradient, and no weight moved
    trained     a trained masker: a saliency method, and the folder that it is kept in
    training    training a masker, FIX or CA
    pretrained  the maskers of the quickstart, ready to use
"""

__all__: list[str] = []
