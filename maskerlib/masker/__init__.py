"""Networks that draw masks from a classifier's activations, and their training (equation 2): the study's, and its forerunners'.

Imports the rooms before it.

    network             the study's network
    config              one run's configuration, saved beside its weights; CASM and adversarial superpixels are some of them
    decoder             the network of Dabkowski and Gal, with its class selector
    real_time           one run's configuration of their real-time saliency
    pool                the earlier classifiers that judge a classifier-agnostic run
    step                one step of training: every gradient, and no weight moved
    trained             a trained masker: a saliency method, and the folder that it is kept in
    run                 what every training does before its first step and after its last
    training            training a masker, FIX or CA
    real_time_training  training for real-time saliency, selector first
    collection          trained maskers by name, each with its card and its files' checksums
    publishing          a finished run put into a collection
    pretrained          the maskers of the quickstart, ready to use
"""

__all__: list[str] = []
