"""Every way to draw a map, behind one protocol: method(images, targets, classifier) -> saliency. Imports the rooms before it.

    entry                  what a method says of itself: its kind, its cost
    optimise               one mask per image, by gradient descent (equation 1)
    meaningful             the same as the deletion game: how little must be blurred
    max_convolution        smooth masks that still reach 1
    blur_pyramid           an image, as sharp as its mask is high
    extremal               the best smooth mask of an area
    fido                   a coin for each pixel, and its rate: what is sufficient
    fido_sdr               the same, what destroys
    trained                a trained masker, by its folder
    attributions           from signed attributions to a map
    gradient               the gradient of a logit
    smooth_grad            the mean gradient of noisy copies
    input_x_gradient       the gradient times the distance from the mean colour
    gradient_shap          the same along lines from any baselines, at random
    copies                 copies of a classifier with other modules in the place of some
    guided_backprop        backpropagation that lets positive gradients through alone
    integrated_gradients   integrated gradients, and what their sum misses
    deep_lift              the logit's change from a baseline, shared out by mean slopes
    lrp                    relevance handed back layer by layer
    cams                   what class activation maps share: a layer's channels, and their gradient
    grad_cam               which cells of a layer speak for a class
    grad_cam_plus_plus     the same, with a weight for each cell
    layer_cam              a layer's channels, weighted cell by cell
    score_cam              each channel of a layer, tried as a mask
    opti_cam               the mix of a layer's channels that shows the class best
    rise                   the mean score of random masks, all classes at once
    patch_samplers         what could stand in a window of an image
    prediction_difference  the evidence that is lost when a window is drawn anew
    occlusion              what is lost when a patch is hidden
    lime                   a linear model of what hidden regions do
    kernel_shap            the Shapley values of the regions of an image
    captum_method          any attribution of captum
    centre_box             a box in the middle, whatever the image
    random_map             noise, whatever the image
    registry               methods by name
    asking                 how a method is asked, and what it must answer
    saved_maps             maps drawn before, in an array or in files
"""

__all__: list[str] = []
