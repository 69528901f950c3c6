"""The data sets of the field, read in the layouts that they are published in.

Every reader says what the files hold as `Record`s; all that follows is the same for each.

    mask_rule        what the values of a data set's mask files mean
    record           one image of a data set: its file, classes, boxes, masks
    text             tables of text: lines of so many fields
    xml_boxes        the objects of an XML file of ImageNet or PASCAL VOC
    index            all records of a split, built once and kept
    indexed          a source of the images of an index
    imagenet_names   what the classes of ImageNet are called
    imagenet         ImageNet: folders of classes, boxes in XML files
    imagenet_kaggle  ImageNet as Kaggle has it: classes and boxes in CSV files
    wsol             the metadata of wsolevaluation: ILSVRC, CUB, OpenImages30k
    cub              CUB-200-2011
    pets             Oxford-IIIT Pet
    voc              PASCAL VOC

Boxes are half-open as soon as they are records: pixels that count from 1 or that include the last one are converted there, once.
"""

__all__: list[str] = []
