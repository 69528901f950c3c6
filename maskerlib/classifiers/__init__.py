"""Classifiers: any network, its layers by name, and what its input and output mean. Imports `running` and `data`.

    layouts               where the pixels are in what a layer returns
    networks              what any network is asked for: to stand still, to show what it is wrapped in
    reading               what the layers of a network return, as maps
    classifier            a network, the names of its layers, and what its input and output mean
    doors                 what every entry of the library asks of images, targets, labels and classifiers
    heads                 another number of classes for a network
    candidates            which layers of a network can be read
    weights               weights from files into networks
    entry                 what a module of this room says of the classifier that it offers by name
    scene_resnet          the small ResNet of the lessons, with its weights
    libraries             what the networks of torchvision and timm have in common
    efficientnet_lite     EfficientNet-Lite0, 1 and 2, with their weights
    efficientnet_lite0    the first of them by name
    efficientnet_lite1    the second
    efficientnet_lite2    the third
    torchvision_networks  any classification network of torchvision
    timm_networks         any network of timm
    registry              classifiers by name
"""

__all__: list[str] = []
