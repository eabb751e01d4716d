"""What a lesson tells its learner: results in stable words, guesses compared, exercises checked.

Each `check_*` passes in a sentence, or names the mistake that it sees.
"""

from .attribution import (
    check_cam,
    check_grad_cam,
    check_integrated,
    check_occlusion,
    check_relu_rule,
    check_saliency,
    check_smooth,
)
from .common import compare_choice, compare_guess, within
from .decision_matrix import check_cheapest, check_seeds
from .faithfulness import check_deletion, check_hit, check_map_similarity, check_revealed
from .full_finetuning import check_cka, check_recipe, check_stage_rate
from .how_transferable import check_give, check_honest
from .linear_probing import check_nearest, check_penalty, check_scaled
from .looking import (
    check_dead,
    check_directions,
    check_explained,
    check_kept,
    check_plane,
    check_receptive_field,
    check_recorded,
    check_similar_channels,
)
from .matching import check_gram, check_missed, check_painted
from .partial_freezing import check_freeze, check_optimizer, check_trainable
from .six_steps import check_frozen_before, check_head_size
from .synthesis import (
    check_blur,
    check_dream,
    check_excitement,
    check_fooling_step,
    check_jitter,
    check_pull,
)

__all__ = [
    "check_blur",
    "check_cam",
    "check_cheapest",
    "check_cka",
    "check_dead",
    "check_deletion",
    "check_directions",
    "check_dream",
    "check_excitement",
    "check_explained",
    "check_fooling_step",
    "check_freeze",
    "check_frozen_before",
    "check_give",
    "check_grad_cam",
    "check_gram",
    "check_head_size",
    "check_hit",
    "check_honest",
    "check_integrated",
    "check_jitter",
    "check_kept",
    "check_map_similarity",
    "check_missed",
    "check_nearest",
    "check_occlusion",
    "check_optimizer",
    "check_painted",
    "check_penalty",
    "check_plane",
    "check_pull",
    "check_receptive_field",
    "check_recipe",
    "check_recorded",
    "check_relu_rule",
    "check_revealed",
    "check_saliency",
    "check_scaled",
    "check_seeds",
    "check_similar_channels",
    "check_smooth",
    "check_stage_rate",
    "check_trainable",
    "compare_choice",
    "compare_guess",
    "within",
]
