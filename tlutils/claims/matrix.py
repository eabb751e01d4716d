"""The decision matrix in its three published versions, cell by cell: how similar × how much data."""

from typing import Any

from .effects import Measurement
from .materials import BACKBONE, FAR, NEAR, STAGES
from .training import WHOLE
from .verdicts import Claim

probe = Measurement("linear_probe", defaults={"backbone": BACKBONE, "at": "pool"})
tuned_probe = Measurement("tuned_probe")
training = Measurement("training")

LECTURE = "CS231n lectures, recent editions, Lecture 6, transfer learning matrix, slides 79 to 87"
SLIDES = "CS231n slides 2017, Lecture 7, 'Transfer Learning with CNNs'"
NOTES = "CS231n course notes 2015, 'Transfer Learning', when and how to fine-tune"

LITTLE_NEAR: dict[str, Any] = {"dataset": NEAR, "level": "little"}
LITTLE_FAR: dict[str, Any] = {"dataset": FAR, "level": "little"}
LOTS_NEAR: dict[str, Any] = {"dataset": NEAR, "level": "lots"}
LOTS_FAR: dict[str, Any] = {"dataset": FAR, "level": "lots"}

MANY = 200
"""From how many images on, of all classes together, there are many ("lots", "large").

No table says. It is a reading of this course: with lots, the full tier's networks are trained on 200 images
or more, with little on 50 at the most; and `benchmarks/advisor_regret.py` tries limits around it.
"""


def is_many(images: int) -> bool:
    """Return whether so many images, of all classes together, are many in the tables: see `MANY`.

    Args:
        images: how many there are to learn from.

    Example:
        >>> from tlutils import claims
        >>> claims.is_many(claims.MANY - 1), claims.is_many(claims.MANY)
        (False, True)
    """
    return images >= MANY


MATRIX = [
    Claim(
        id="lecture-little-similar",
        says="With little data that is similar to ImageNet, a linear classifier on final features will do.",
        source=f"{LECTURE}: little, similar",
        effect=tuned_probe(**LITTLE_NEAR) - training(strategy="lp-ft", **LITTLE_NEAR),
        contrast="linear probe on the final features minus finetuning everything from there",
        expects="no less",
    ),
    Claim(
        id="lecture-little-different",
        says="With little data that is different, look for more data or another model.",
        source=f"{LECTURE}: little, different",
        effect=probe(**LOTS_FAR) - probe(**LITTLE_FAR),
        contrast="linear probe with lots of labels minus with little",
        note="It measures the first half of the advice, more data; kornblith-far measures another model.",
    ),
    Claim(
        id="lecture-lots-similar",
        says="With lots of data that is similar, finetune all layers.",
        source=f"{LECTURE}: lots, similar",
        effect=training(strategy=WHOLE, **LOTS_NEAR) - tuned_probe(**LOTS_NEAR),
        contrast="finetuning everything from a random head minus the linear probe",
    ),
    Claim(
        id="lecture-lots-different",
        says="With lots of data that is different, finetune all layers.",
        source=f"{LECTURE}: lots, different",
        effect=training(strategy=WHOLE, **LOTS_FAR) - tuned_probe(**LOTS_FAR),
        contrast="finetuning everything from a random head minus the linear probe",
    ),
    Claim(
        id="lecture-lots-different-scratch",
        says="With lots of data that is different, training from scratch is an alternative to finetuning.",
        source=f"{LECTURE}: lots, different",
        effect=training(strategy="scratch", **LOTS_FAR) - training(strategy=WHOLE, **LOTS_FAR),
        contrast="from scratch minus finetuning everything",
        expects="no less",
        note="Lots means hundreds of images here, and thousands to millions there.",
    ),
    Claim(
        id="slides-little-similar",
        says="With little data that is similar, put a linear classifier on top: finetune no layer.",
        source=f"{SLIDES}: little, similar",
        effect=tuned_probe(**LITTLE_NEAR) - training(strategy="few", **LITTLE_NEAR),
        contrast="linear probe on the final features minus finetuning the last two stages",
        expects="no less",
    ),
    Claim(
        id="slides-little-different",
        says="With little data that is different, try linear classifiers from different stages.",
        source=f"{SLIDES}: little, different",
        effect=probe(at=STAGES, pick="at", **LITTLE_FAR) - probe(**LITTLE_FAR),
        contrast="linear probe at the stage that cross-validation picks minus at the final features",
    ),
    Claim(
        id="slides-lots-similar",
        says="With lots of data that is similar, finetune a few layers.",
        source=f"{SLIDES}: lots, similar",
        effect=training(strategy="few", **LOTS_NEAR) - tuned_probe(**LOTS_NEAR),
        contrast="finetuning the last two stages minus the linear probe",
    ),
    Claim(
        id="slides-lots-different",
        says="With lots of data that is different, finetune a larger number of layers.",
        source=f"{SLIDES}: lots, different",
        effect=training(strategy="more", **LOTS_FAR) - training(strategy="few", **LOTS_FAR),
        contrast="finetuning from the middle on minus finetuning the last two stages",
    ),
    Claim(
        id="notes-little-similar",
        says=(
            "With little data that is similar, finetuning from a random head overfits: rather a linear "
            "classifier."
        ),
        source=f"{NOTES}: scenario 1, small and similar",
        effect=tuned_probe(**LITTLE_NEAR) - training(strategy="finetune", **LITTLE_NEAR),
        contrast="linear probe on the final features minus finetuning everything from a random head",
    ),
    Claim(
        id="notes-little-different",
        says="With little data, earlier activations pay more on different images than on similar ones.",
        source=f"{NOTES}: scenario 3, small and very different",
        effect=(probe(at=STAGES, pick="at", **LITTLE_FAR) - probe(**LITTLE_FAR))
        - (probe(at=STAGES, pick="at", **LITTLE_NEAR) - probe(**LITTLE_NEAR)),
        contrast=(
            "gain of the stage that cross-validation picks over the final features, different minus similar"
        ),
    ),
    Claim(
        id="notes-lots-similar",
        says="With lots of data that is similar, the whole network can be finetuned without overfitting.",
        source=f"{NOTES}: scenario 2, large and similar",
        effect=training(strategy="lp-ft", **LOTS_NEAR) - tuned_probe(**LOTS_NEAR),
        contrast="finetuning everything minus the linear probe that it starts from",
        expects="no less",
    ),
    Claim(
        id="notes-lots-different",
        says="With lots of data that is different, it is still beneficial to start from pretrained weights.",
        source=f"{NOTES}: scenario 4, large and very different",
        effect=training(strategy=WHOLE, **LOTS_FAR) - training(strategy="scratch", **LOTS_FAR),
        contrast="finetuning everything minus training from scratch",
    ),
]
