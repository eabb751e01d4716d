"""What a network learned: activations, attributions and images, computed (`tlutils.plots` draws them).

Attributions take (model, x, target=None) and return maps (N, H, W); syntheses return images in [0, 1] with
the curve of their objective. x is a preprocessed batch (N, C, H, W); names of stages are those of
`surgery.stages`.
"""

from .activations import Patch, activations, dead_channels, receptive_boxes, top_patches
from .attribution import (
    deconvnet,
    guided_backprop,
    integrated_gradients,
    occlusion,
    saliency,
    smoothgrad,
)
from .cams import cam, grad_cam
from .faithfulness import Curve, HitRate, cascading_randomization, deletion, insertion, pointing_game
from .filters import GaborFit, as_images, filters, gabor_likeness
from .matching import feature_inversion, style_transfer, texture_synthesis
from .neighbours import ImageMap, image_map, nearest
from .optimise import Synthesis, to_image, to_input
from .synthesis import FoolingImages, class_visualization, deepdream, fooling_images, maximise_activation

__all__ = [
    "Curve",
    "FoolingImages",
    "GaborFit",
    "HitRate",
    "ImageMap",
    "Patch",
    "Synthesis",
    "activations",
    "as_images",
    "cam",
    "cascading_randomization",
    "class_visualization",
    "dead_channels",
    "deconvnet",
    "deepdream",
    "deletion",
    "feature_inversion",
    "filters",
    "fooling_images",
    "gabor_likeness",
    "grad_cam",
    "guided_backprop",
    "image_map",
    "insertion",
    "integrated_gradients",
    "maximise_activation",
    "nearest",
    "occlusion",
    "pointing_game",
    "receptive_boxes",
    "saliency",
    "smoothgrad",
    "style_transfer",
    "texture_synthesis",
    "to_image",
    "to_input",
    "top_patches",
]
