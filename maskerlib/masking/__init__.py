"""What a mask is and what it should do: section 3 of the study, without a network that draws masks.

Imports the rooms before it.

    masks          what a mask is, and how it blends an image with what hides it
    infills        what stands where the image is hidden
    oracle         what stands there in truth: a scene without its object
    terms          each term of an objective
    objectives     what a mask should do: masked-in and masked-out terms, size, total variation
    margins        the objective of Dabkowski and Gal, and what hides an image there
    segments       superpixels, and one number for each
    distributions  from a mask's logits to a mask: a sigmoid, or a sample
    inpainting     a network that guesses what a hole hides, to be trained and used as an infill
"""

__all__: list[str] = []
