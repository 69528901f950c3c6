"""Every way to draw a map, behind one protocol: method(images, targets, classifier) -> saliency. Imports the rooms before it.

    entry                 what a method says of itself: its kind, its cost
    optimise              one mask per image, by gradient descent (equation 1)
    trained               a trained masker, by its folder
    attributions          from signed attributions to a map
    gradient              the gradient of a logit
    smooth_grad           the mean gradient of noisy copies
    guided_backprop       backpropagation that lets positive gradients through alone
    integrated_gradients  integrated gradients, and what their sum misses
    grad_cam              which cells of a layer speak for a class
    captum_method         any attribution of captum
    centre_box            a box in the middle, whatever the image
    random_map            noise, whatever the image
    registry              methods by name
    asking                how a method is asked, and what it must answer
    saved_maps            maps drawn before, in an array or in files
"""

__all__: list[str] = []
