"""What lectures and papers say beside the matrix, and the list of all claims."""

import pandas as pd

from ..errors import unknown
from .effects import Measurement
from .materials import BACKBONE, FAR, NEAR
from .matrix import (
    LOTS_FAR,
    LOTS_NEAR,
    MATRIX,
    NOTES,
    SLIDES,
    probe,
    scratch,
    training,
)
from .tiers import LARGER, RATES
from .verdicts import Claim

ALL = (NEAR, *FAR)
neighbours = Measurement("nearest_neighbour")
surgical = Measurement("surgical_finetuning")
transferred = Measurement("layer_transfer", defaults={"layers": "frozen"})
gabor = Measurement("gabor_likeness", "similarity")
pointing = Measurement("pointing_game", "hits")
randomized = Measurement("cascading_randomization", "similarity")
distance = Measurement("domain_distance", "distance")
VISUAL = "CS231n lectures, visualizing and understanding"


def crossing(table: pd.DataFrame) -> str:
    """Say from how many images on training from scratch is level with the frozen probe, by data set."""
    words = []
    for dataset in ALL:
        base, own = probe(dataset=dataset).rows(table), scratch(dataset=dataset).rows(table)
        both = own.merge(base, on=["labels", "seed"], suffixes=("", "_probe"))
        gaps = (both["score"] - both["score_probe"]).groupby(both["labels"]).mean()
        level = gaps[gaps >= 0]
        first = f"at {level.index[0]:g}" if len(level) else f"beyond {gaps.index.max():g}"
        words.append(f"{dataset}: {first}")
    return f"Images from which on scratch is level with the frozen probe: {'; '.join(words)}."


def scale(table: pd.DataFrame) -> str:
    """Say how far each set of images is from ImageNet's."""
    rows = table[table["protocol"] == "domain_distance"].groupby("dataset")["distance"].mean().sort_values()
    return f"Distances: {', '.join(f'{name} {value:.2f}' for name, value in rows.items())}."


OTHERS = [
    Claim(
        id="similarity-measured",
        says="Solar cells and digits are further from ImageNet than crops of photographs are.",
        source="the data cards; distance after Heusel et al. 2017 and Yin et al. 2020",
        effect=distance(dataset=FAR) - distance(dataset=NEAR),
        contrast="distance of the different data sets minus that of the similar one",
        margin=0.1,
        unit="squared standard deviations of ImageNet's features",
        also=scale,
    ),
    Claim(
        id="gabor-filters",
        says="The first filters of a trained network are Gabor-like edges and colour blobs.",
        source=f"{VISUAL}, first layer; Yosinski et al. 2014, section 1",
        effect=gabor(backbone=BACKBONE) - gabor(backbone="random"),
        contrast="share of a filter's energy that one Gabor or blob explains, trained minus random",
        margin=0.05,
        unit="share of energy",
        note="The filters are 3 × 3, in which much is Gabor-like: hence the random control.",
    ),
    Claim(
        id="early-general-late-specific",
        says="Early features are general and late ones specific: going deep pays more on similar images.",
        source=f"{NOTES}; Yosinski et al. 2014, section 4.2",
        effect=(probe(**LOTS_NEAR) - probe(at="stage4", **LOTS_NEAR))
        - (probe(**LOTS_FAR) - probe(at="stage4", **LOTS_FAR)),
        contrast="gain of the final features over stage 4, on similar minus on different images",
    ),
    Claim(
        id="early-unfreezing-far",
        says="Unfreezing early layers matters more when the domain is far.",
        source=f"{SLIDES}: lots, different",
        effect=(training(strategy="finetune", **LOTS_FAR) - training(strategy="few", **LOTS_FAR))
        - (training(strategy="finetune", **LOTS_NEAR) - training(strategy="few", **LOTS_NEAR)),
        contrast="gain of finetuning everything over the last stages, on different minus on similar images",
    ),
    Claim(
        id="scratch-needs-images",
        says="With few images, training from scratch loses against a linear probe on frozen features.",
        source=f"{NOTES}, opening paragraph",
        effect=probe(dataset=ALL, level="little") - scratch(dataset=ALL, level="little"),
        contrast="linear probe minus from scratch, little data",
        margin=0.05,
        also=crossing,
    ),
    Claim(
        id="smaller-rate",
        says="Pretrained weights need a smaller learning rate than weights from scratch.",
        source=f"{NOTES}, practical advice: learning rates",
        effect=training(strategy="finetune", dataset=ALL, level="little")
        - training(strategy="finetune", dataset=ALL, level="little", rate=RATES[1]),
        contrast=f"finetuning at {RATES[0]:g} minus at ten times that rate",
    ),
    Claim(
        id="large-rate-forgets",
        says="At a large rate, finetuning destroys what the network knew.",
        source=f"{NOTES}, practical advice: 'distort them too quickly and too much'",
        effect=probe(dataset=ALL, level="little")
        - training(strategy="finetune", dataset=ALL, level="little", rate=RATES[2]),
        contrast=f"the probe that finetuning starts from minus finetuning at {RATES[2]:g}",
        margin=0.05,
    ),
    Claim(
        id="feature-neighbours",
        says="Neighbours in the final features are alike in content; neighbours in pixels are not.",
        source=f"{VISUAL}, last layer: nearest neighbours; Krizhevsky et al. 2012, section 6.1",
        effect=neighbours(dataset=ALL, backbone=BACKBONE) - neighbours(dataset=ALL, backbone="pixels"),
        contrast="share of images whose nearest neighbour is of their class, by features minus by pixels",
        margin=0.02,
    ),
    Claim(
        id="batchnorm-drift",
        says="BatchNorm left on in finetuning with little data and small batches costs accuracy.",
        source="common practice in finetuning on small batches; lesson 04 of this course",
        effect=training(strategy="finetune", dataset=ALL, level="little")
        - training(strategy="batchnorm on", dataset=ALL, level="little"),
        contrast="finetuning with BatchNorm frozen minus with BatchNorm on",
    ),
    Claim(
        id="random-control",
        says="A pretrained frozen backbone beats a random frozen one: it is the training that helps.",
        source="Yosinski et al. 2014, section 4.3, random weights",
        effect=probe(dataset=ALL, level=("little", "lots"))
        - probe(dataset=ALL, level=("little", "lots"), backbone="random"),
        contrast="linear probe on pretrained minus on random final features",
        margin=0.02,
    ),
    Claim(
        id="random-control-lots-far",
        says="Even with lots of different images, a random frozen backbone does not do as well.",
        source="Yosinski et al. 2014, section 4.3, random weights",
        effect=probe(**LOTS_FAR) - probe(backbone="random", **LOTS_FAR),
        contrast="linear probe on pretrained minus on random final features, lots of different images",
        margin=0.02,
    ),
    Claim(
        id="off-the-shelf",
        says="Off-the-shelf features with a linear classifier are an astounding baseline.",
        source="Razavian et al. 2014, sections 1 and 3",
        effect=probe(dataset=ALL, level="lots")
        - probe(dataset=ALL, level="lots", at="pixels", backbone="pixels"),
        contrast="linear classifier on final features minus on pixels",
        margin=0.02,
    ),
    Claim(
        id="decaf-depth",
        says="Deep features separate classes better than early ones.",
        source="Donahue et al. 2014 (DeCAF), sections 3.2 and 4.1",
        effect=probe(**LOTS_NEAR) - probe(at="stage2", **LOTS_NEAR),
        contrast="linear probe on the final features minus on stage 2, similar images",
        margin=0.02,
    ),
    Claim(
        id="zeiler-fergus-layers",
        says="The features of each further layer are better: the top is better than the middle.",
        source="Zeiler and Fergus 2014, section 5.3, table 7",
        effect=probe(**LOTS_NEAR) - probe(at="stage5", **LOTS_NEAR),
        contrast="linear probe on the final features minus on stage 5, similar images",
    ),
    Claim(
        id="yosinski-specific",
        says="Layers copied from another task transfer less well the deeper the cut.",
        source="Yosinski et al. 2014, figure 2: AnB",
        effect=transferred(source="other", copied=1) - transferred(source="other", copied=5),
        contrast="network with 1 frozen layer of another task minus with 5",
    ),
    Claim(
        id="yosinski-coadapted",
        says="Layers are co-adapted: cut in the middle, a network does not recover its score.",
        source="Yosinski et al. 2014, figure 2: BnB",
        effect=transferred(source="same", copied=0) - transferred(source="same", copied=(2, 3)),
        contrast="base network minus the same with its first 2 or 3 layers frozen, the rest retrained",
        note="The network has five layers, theirs eight, and digits stand for ImageNet.",
    ),
    Claim(
        id="yosinski-boost",
        says="Copied layers that are then finetuned generalise better than training from scratch.",
        source="Yosinski et al. 2014, figure 2: AnB+",
        effect=transferred(source="other", copied=(2, 4), layers="finetuned")
        - transferred(source="same", copied=0),
        contrast="network with 2 or 4 layers copied and tuned minus base network",
    ),
    Claim(
        id="kornblith-near",
        says="Better ImageNet models transfer better as fixed features: Lite2 before Lite0, similar images.",
        source="Kornblith et al. 2019, figure 1, fixed features",
        effect=probe(backbone=LARGER[1], **LOTS_NEAR) - probe(**LOTS_NEAR),
        contrast="linear probe on Lite2's final features minus on Lite0's",
    ),
    Claim(
        id="kornblith-step",
        says="Better ImageNet models transfer better as fixed features: Lite1 before Lite0, similar images.",
        source="Kornblith et al. 2019, figure 1, fixed features",
        effect=probe(backbone=LARGER[0], **LOTS_NEAR) - probe(**LOTS_NEAR),
        contrast="linear probe on Lite1's final features minus on Lite0's",
    ),
    Claim(
        id="kornblith-far",
        says="With little data that is different, another (better) pretrained model helps.",
        source="CS231n lectures, recent editions, Lecture 6: little, different; Kornblith et al. 2019",
        effect=probe(backbone=LARGER, dataset=FAR[0], level="little") - probe(dataset=FAR[0], level="little"),
        contrast="linear probe on Lite1's and Lite2's final features minus on Lite0's, solar cells",
    ),
    Claim(
        id="kumar-id",
        says="Probing first and finetuning then beats finetuning at once.",
        source="Kumar et al. 2022, experiments in distribution",
        effect=training(strategy="finetune", dataset=ALL, level="little")
        - training(strategy="random head", dataset=ALL, level="little"),
        contrast="finetuning from a solved probe minus from a random head",
    ),
    Claim(
        id="kumar-ood",
        says="Out of distribution, probing first and finetuning then does better than finetuning at once.",
        source="Kumar et al. 2022, experiments out of distribution",
        effect=training(strategy="finetune", dataset=ALL, level="little", value="noisy")
        - training(strategy="random head", dataset=ALL, level="little", value="noisy"),
        contrast="as kumar-id, judged on images with noise",
    ),
    Claim(
        id="lee-input-first-last",
        says="When the input shifts, tuning the first block beats tuning the last layer.",
        source="Lee et al. 2023, section 2, figure 2",
        effect=surgical(shift="noise", tune="first") - surgical(shift="noise", tune="last"),
        contrast="first block tuned minus head tuned, on images with noise",
    ),
    Claim(
        id="lee-input-first-all",
        says="When the input shifts, tuning the first block alone beats tuning everything.",
        source="Lee et al. 2023, section 2, figure 2",
        effect=surgical(shift="noise", tune="first") - surgical(shift="noise", tune="all"),
        contrast="first block tuned minus everything tuned, on images with noise",
    ),
    Claim(
        id="lee-output",
        says="When the output shifts, tuning the last layer beats tuning the first block.",
        source="Lee et al. 2023, section 2, figure 2",
        effect=surgical(shift="relabel", tune="last") - surgical(shift="relabel", tune="first"),
        contrast="head tuned minus first block tuned, on classes with exchanged names",
    ),
    Claim(
        id="he-scratch-catches-up",
        says="The gain of pretraining over scratch shrinks as data grows.",
        source="He et al. 2019, training from scratch with less data",
        effect=(
            training(strategy="finetune", dataset=ALL, level="little") - scratch(dataset=ALL, level="little")
        )
        - (training(strategy="finetune", dataset=ALL, level="lots") - scratch(dataset=ALL, level="lots")),
        contrast="gain of finetuning over scratch, with little minus with lots of data",
    ),
    Claim(
        id="saliency-points",
        says="The gradient of the class score with respect to the pixels points at the object.",
        source=f"{VISUAL}, saliency; Simonyan et al. 2014, section 3",
        effect=pointing(method="saliency") - pointing(method="saliency", value="chance"),
        contrast="share of maps whose peak is on the object minus the object's share of the picture",
        margin=0.1,
        unit="share of pictures",
    ),
    Claim(
        id="guided-backprop-sanity",
        says="Guided backpropagation shows the picture more than the network: it survives random weights.",
        source="Adebayo et al. 2018, section 3, model parameter randomization test",
        effect=randomized(method="guided_backprop") - randomized(method="saliency"),
        contrast="similarity of maps before and after all weights are replaced, guided minus gradient",
        margin=0.1,
        unit="rank correlation",
    ),
]

CLAIMS: dict[str, Claim] = {claim.id: claim for claim in [*MATRIX, *OTHERS]}
"""All claims by id, the matrix first."""


def claim(id: str) -> Claim:
    """Return the claim of an id.

    Args:
        id: a key of `CLAIMS`.

    Raises:
        LearnerError: there is no such claim; the nearest ids are in the message.

    Example:
        >>> from tlutils import claims
        >>> claims.claim("decaf-depth").says
        'Deep features separate classes better than early ones.'
    """
    if id not in CLAIMS:
        raise unknown("claim", id, CLAIMS)
    return CLAIMS[id]
