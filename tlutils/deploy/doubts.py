"""What in a folder of images makes a result less sure than it looks."""

import numpy as np

from .. import data, intervals

SHOWN = 5  # classes that are named


def list_doubts(dataset: data.DatasetSplits) -> list[str]:
    """Return, as sentences, what makes a result on a data set less sure than it looks, and what follows.

    Args:
        dataset: As `data.load` gives it.

    Example:
        >>> from tlutils import data, deploy
        >>> deploy.list_doubts(data.load("digits"))
        []
    """
    doubts, names = [], [repr(name) for name in dataset.classes]
    known = dataset.train.join(dataset.val)  # as in the advice
    counts = known.counts
    if known.largest_and_smallest:
        most, least = known.largest_and_smallest
        doubts.append(
            f"The classes are imbalanced: beside the test images there are {counts[most]} of {most!r}, "
            f"{counts[least]} of {least!r}. So balanced accuracy judges, "
            "the mean recall of the classes: always answering "
            f"{most!r} is right for {counts[most] / len(known):.0%} of such images and has a balanced "
            f"accuracy of {1 / len(counts):.2f}."
        )
    if known.few:
        few = list(map(repr, known.few))
        listed = ", ".join(few[:SHOWN]) + (", …" if len(few) > SHOWN else "")
        doubts.append(
            f"{len(few)} of {len(names)} classes have fewer than {data.FEW_IMAGES} images beside the test "
            f"images ({listed}). Collect more: nothing else helps as much."
        )
    judged = np.array(list(dataset.test.counts.values()))
    if not judged.any():
        doubts.append("There is no test image: nothing says how good the model is. Collect more images.")
        return doubts
    if absent := [name for name, count in zip(names, judged, strict=True) if not count]:
        listed = ", ".join(absent[:SHOWN]) + (", …" if len(absent) > SHOWN else "")
        doubts.append(f"Nothing will be known of {listed}: no test image is of that class.")
    labels = dataset.test.labels
    best = intervals.wilson_interval(np.ones(len(labels)), labels, groups=dataset.test.groups)
    if best.low < 0.9:
        doubts.append(
            f"{judged.sum()} test images say little: if all of them were right, the balanced accuracy could "
            f"still be {best.low:.2f}."
        )
    return doubts
