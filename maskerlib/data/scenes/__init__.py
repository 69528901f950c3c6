"""The embedded data set, which needs no download: OpenMoji objects in photographs, with labels, boxes and masks.

    glyphs      which drawings and photographs make up the scenes
    sprites     a drawing at any size and angle
    drawing     one scene, and every pixel that belongs to its object
    source      the data set of scenes, rendered once
"""

__all__: list[str] = []
