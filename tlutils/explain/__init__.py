"""What a network learned: activations, attributions and images, computed (`tlutils.plots` draws them).

Attributions take (model, x, target=None) and return maps (N, H, W); syntheses return images in [0, 1] with
the curve of their objective. x is a preprocessed batch (N, C, H, W); names of stages are those of
`surgery.stages`.
"""

from .attribution import (
    deconvnet,
    guided_backprop,
    integrated_gradients,
    occlusion,
    saliency,
    smoothgrad,
)
from .cams import cam, grad_cam
from .channels import activations, as_maps, dead_channels, top_patches
from .faithfulness import cascading_randomization, deletion, insertion, pointing_game
from .hooks import checked_batch, score_classes
from .matching import feature_inversion, style_transfer, texture_synthesis
from .neighbours import embedding_map, nearest
from .optimise import Synthesis, denormalize, normalize
from .synthesis import class_visualization, deepdream, fooling_images, maximise_activation
from .weights import filters, filters_to_images, fit_gabors

__all__ = [
    "Synthesis",
    "activations",
    "as_maps",
    "cam",
    "cascading_randomization",
    "checked_batch",
    "class_visualization",
    "dead_channels",
    "deconvnet",
    "deepdream",
    "deletion",
    "denormalize",
    "embedding_map",
    "feature_inversion",
    "filters",
    "filters_to_images",
    "fit_gabors",
    "fooling_images",
    "grad_cam",
    "guided_backprop",
    "insertion",
    "integrated_gradients",
    "maximise_activation",
    "nearest",
    "normalize",
    "occlusion",
    "pointing_game",
    "saliency",
    "score_classes",
    "smoothgrad",
    "style_transfer",
    "texture_synthesis",
    "top_patches",
]
