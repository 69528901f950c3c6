"""Reading files: what every source of images on disk has in common.

    listing     what lies in a folder: images, folders, what is left out
    images      image files of every common kind
    masks       pixel masks; label images and trimaps are refused
    box_table   boxes.csv
    framing     scaling and cutting, with boxes and masks
    layout      where a folder keeps its classes, masks and boxes
    source      sources of files: fitted for a batch, cropped from their own pixels
"""

__all__: list[str] = []
