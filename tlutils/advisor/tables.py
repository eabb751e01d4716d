"""Where three published tables put some images: by how many there are, and how near to ImageNet."""

from collections.abc import Mapping
from dataclasses import dataclass

ELSEWHERE = "another pretrained model, or more data"
"""What a table says that is no policy for one network and the images that there are."""

Cells = Mapping[tuple[bool, bool], str]
"""A policy by (are there many images, are they different from ImageNet).

Whether there are many, `claims.is_many` says; they are different from `transferability.similarity_border` on.
"""


@dataclass(frozen=True)
class PublishedTable:
    """A table that says by data what to train.

    Attributes:
        source: where it stands.
        says: by (many, different), what it says there.
        cells: the same as one of the policies.
    """

    source: str
    says: Mapping[tuple[bool, bool], str]
    cells: Cells


def table_of(few_near: str, few_far: str, many_near: str, many_far: str) -> dict[tuple[bool, bool], str]:
    """Return the four cells by (many, different).

    Args:
        few_near: few images, similar to those of pretraining.
        few_far: few and different ones.
        many_near: many similar ones.
        many_far: many different ones.
    """
    return {
        (False, False): few_near,
        (False, True): few_far,
        (True, False): many_near,
        (True, True): many_far,
    }


TABLES = {
    "lecture": PublishedTable(
        "CS231n, recent editions, Lecture 6",
        table_of(
            "a linear classifier on the final features",
            ELSEWHERE,
            "finetune all layers",
            "finetune all layers, or train from scratch",
        ),
        table_of("probe", "probe", "finetune", "finetune"),
    ),
    "slides": PublishedTable(
        "CS231n 2017, Lecture 7",
        table_of(
            "a linear classifier on top",
            "linear classifiers on different stages",
            "finetune a few layers",
            "finetune a larger number of layers",
        ),
        table_of("probe", "probe, best depth", "last stage", "finetune"),
    ),
    "notes": PublishedTable(
        "CS231n, notes of 2015",
        table_of(
            "a linear classifier on the final features",
            "a linear classifier on earlier activations",
            "finetune through the full network",
            "finetune through the full network",
        ),
        # From which head, they do not say: here from the solved one, as Keras' guide to transfer learning.
        table_of("probe", "probe, best depth", "lp-ft", "lp-ft"),
    ),
}
"""The tables by a short name. `ELSEWHERE` is no policy: where one is needed, the probe stands in for it."""
