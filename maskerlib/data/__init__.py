"""Images and what is known of them: samples, and the sources that yield them. Imports `running` alone.

    indices             positions and sizes that a source can be asked for
    augment             random crops and flips of a batch
    samples             the one form that every data source takes
    boxes               their size, how well two agree, what they cover
    files               reading files: images, masks, boxes, folders
    folder              the reader's own labelled images
    photos              photographs without labels
    torchvision_source  a data set of torchvision as a source
    scenes              the embedded data set: objects drawn into photographs
"""

__all__: list[str] = []
