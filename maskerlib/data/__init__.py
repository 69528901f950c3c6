"""Images and what is known of them: samples, and the sources that yield them. Imports `running` alone.

    indices             positions and sizes that a source can be asked for
    augment             random crops and flips of a batch
    loading             loader processes: batches made ahead of their use
    samples             the one form that every data source takes
    entry               what a source says of itself to be asked for by name
    boxes               around a mask; their size, how well two agree, what they cover
    files               reading files: images, masks, boxes, folders
    folder              the reader's own labelled images
    photos              photographs without labels
    torchvision_source  a data set of torchvision as a source
    sets                the data sets of the field, in the layouts that they are published in
    webdataset          images in tar archives, as WebDataset writes them
    scenes              the embedded data set: objects drawn into photographs
    registry            sources by name
    obtaining           the data sets of the field on this machine: what is there, and where the rest is to be had
    __main__            the command line of these
"""

__all__: list[str] = []
