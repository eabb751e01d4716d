"""What a network learned: maps and images computed, never drawn (drawing is `tlutils.plots`).

Attributions take (model, x, target=None) and return maps (N, H, W); syntheses return images in [0, 1] with
the curve of their objective. x is a preprocessed batch (N, C, H, W); names of stages are those of
`surgery.stages`.
"""

from .activations import Patch, best_patches, dead_channels, maps, receptive_boxes
from .attribution import (
    deconvnet,
    guided_backprop,
    integrated_gradients,
    occlusion,
    saliency,
    smoothgrad,
)
from .cams import cam, grad_cam
from .faithfulness import Curve, HitRate, cascade, deletion, insertion, pointing_game
from .filters import GaborFit, as_images, gabor_likeness, kernels
from .matching import invert, style_transfer, texture
from .neighbours import ImageMap, image_map, nearest
from .optimise import Synthesis, to_image, to_input
from .synthesis import Fooling, class_image, deepdream, favourite_image, fooling

__all__ = [
    "Curve",
    "Fooling",
    "GaborFit",
    "HitRate",
    "ImageMap",
    "Patch",
    "Synthesis",
    "as_images",
    "best_patches",
    "cam",
    "cascade",
    "class_image",
    "dead_channels",
    "deconvnet",
    "deepdream",
    "deletion",
    "favourite_image",
    "fooling",
    "gabor_likeness",
    "grad_cam",
    "guided_backprop",
    "image_map",
    "insertion",
    "integrated_gradients",
    "invert",
    "kernels",
    "maps",
    "nearest",
    "occlusion",
    "pointing_game",
    "receptive_boxes",
    "saliency",
    "smoothgrad",
    "style_transfer",
    "texture",
    "to_image",
    "to_input",
]
