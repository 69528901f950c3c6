from .classifiers.candidates import candidate_layers as candidate_layers
from .classifiers.classifier import Classifier as Classifier
from .classifiers.registry import classifier_named as classifier_named
from .classifiers.scene_resnet import scene_classifier as scene_classifier
from .data.folder import Folder as Folder
from .data.photos import Photos as Photos
from .data.samples import Subset as Subset
from .data.scenes.source import Scenes as Scenes
from .data.torchvision_source import FromTorchvision as FromTorchvision
from .masker.config import MaskerConfig as MaskerConfig
from .masker.pretrained import scene_masker as scene_masker
from .masker.training import Trained as Trained
from .masker.training import load_trained as load_trained
from .masker.training import train_masker as train_masker
from .masking.masks import masked_in as masked_in
from .masking.masks import masked_out as masked_out
from .masking.objectives import Objective as Objective
from .methods.captum_method import captum_method as captum_method
from .methods.grad_cam import grad_cam as grad_cam
from .methods.optimise import mask_method as mask_method
from .methods.optimise import optimise_mask as optimise_mask
from .methods.registry import method_named as method_named
from .methods.saved_maps import save_maps as save_maps
from .metrics.evaluation import evaluate as evaluate
from .training.classifier import ClassifierConfig as ClassifierConfig
from .training.classifier import train_classifier as train_classifier

__version__: str
