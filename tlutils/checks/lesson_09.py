"""Checks of lesson 09: heads at every place and for several tags, boxes that overlap or move."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import runtime
from .common import attempt, is_close, judge

Box = Sequence[float]


def check_convolution(to_convolution: Callable[[nn.Linear], nn.Conv2d] | None) -> None:
    """Print whether a function turns a linear layer into the 1×1 convolution that computes the same.

    Args:
        to_convolution: The learner's `function(linear)`.

    Example:
        >>> from torch import nn
        >>> from tlutils.checks import lesson_09
        >>> def new_weights(linear):
        ...     return nn.Conv2d(linear.in_features, linear.out_features, 1)
        >>> lesson_09.check_convolution(new_weights)
        The convolution has weights of its own: nothing that the linear layer learned is in it. Copy weight
        and bias, the weight as (out, in, 1, 1).
    """
    with runtime.seeded(0):
        linear, maps = nn.Linear(3, 3), torch.randn(2, 3, 4, 5)
        bare = nn.Linear(3, 3, bias=False)
    for layer in (linear, bare):
        found = attempt(to_convolution, layer, todo="Return an nn.Conv2d.")
        if found is None:
            return
        if fault := _fault_of_convolution(found, layer, maps):
            print(fault)
            return
    print("Right: the same weights, used at every place.")


def _fault_of_convolution(found: Any, linear: nn.Linear, maps: Tensor) -> str | None:
    """Return what is wrong with a convolution that should compute what a linear layer does."""
    if not isinstance(found, nn.Conv2d):
        return f"A {type(found).__name__} came back. Expected an nn.Conv2d."
    if found.kernel_size != (1, 1):
        return (
            f"The kernel is {found.kernel_size[0]} × {found.kernel_size[1]}: it mixes neighbouring places. A "
            "linear layer at each place sees that place alone."
        )
    if found.groups != 1:
        return "With groups each output sees a part of the channels. A linear layer sees all of them."
    try:
        out = found(maps).detach()
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        return f"The convolution does not take {maps.shape[1]} channels ({why}). The order is in, out."
    weight = linear.weight.detach()
    bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach()

    def at_each_place(weight: Tensor, bias: Tensor) -> Tensor:
        return torch.einsum("oc,nchw->nohw", weight, maps) + bias[:, None, None]

    if is_close(out, at_each_place(weight, bias)):
        return None
    if out.shape[1:] != (len(weight), *maps.shape[2:]):
        return (
            f"A map of shape {tuple(maps.shape)} becomes {tuple(out.shape)}. Expected one score for each "
            f"class at each place: {(len(maps), len(weight), *maps.shape[2:])}. No stride, no padding."
        )
    if is_close(out, at_each_place(weight.T, bias)):
        return (
            "The weight is transposed. Both layers keep it as (out, in): add two axes of length 1, no more."
        )
    own = found.weight.detach()[:, :, 0, 0]
    if is_close(own, weight):
        return "The weight is right, and the bias is not: " + (
            "this linear layer has none, and the convolution has one of its own. Give bias=False."
            if linear.bias is None
            else "copy it, too."
        )
    return (
        "The convolution has weights of its own: nothing that the linear layer learned is in it. Copy weight "
        "and bias, the weight as (out, in, 1, 1)."
    )


PAIRS: tuple[tuple[Box, Box], ...] = (
    ((0, 0, 10, 10), (5, 0, 15, 20)),
    ((10, 20, 40, 60), (20, 30, 30, 40)),
    ((0, 0, 4, 4), (10, 10, 14, 14)),
    ((0, 0, 4, 4), (2, 8, 6, 12)),
    ((3, 1, 9, 5), (3, 1, 9, 5)),
)
"""Boxes that overlap, that lie within each other, apart on both axes, apart on one, and on each other."""


def _sides(box: Box) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def _shared(a: Box, b: Box) -> tuple[float, float]:
    """Return width and height of what two boxes share; below 0 where they lie apart."""
    return min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])


def _over_pairs(rule: Callable[[Box, Box, float, float, float], float]) -> Tensor:
    """Return a rule of two boxes, their areas, and the area that they share, for each of the `PAIRS`."""
    values = []
    for a, b in PAIRS:
        (w, h), (aw, ah), (bw, bh) = _shared(a, b), _sides(a), _sides(b)
        values.append(rule(a, b, aw * ah, bw * bh, max(0.0, w) * max(0.0, h)))
    return torch.tensor(values)


def check_iou(iou: Callable[[Box, Box], float] | None) -> None:
    """Print whether a function gives the intersection over union of two boxes, or which mistake it makes.

    Args:
        iou: The learner's `function(a, b)` of two boxes (left, top, right, bottom).

    Example:
        >>> from tlutils.checks import lesson_09
        >>> def of_one(a, b):
        ...     width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        ...     height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        ...     return width * height / ((a[2] - a[0]) * (a[3] - a[1]))
        >>> lesson_09.check_iou(of_one)
        This is the share of one box alone. A box that covers everything would win. Divide by what both cover
        together.
    """

    def signed(a: Box, b: Box, one: float, two: float, _: float) -> float:
        w, h = _shared(a, b)
        return w * h / (one + two - w * h)

    def as_sizes(a: Box, b: Box, *_: float) -> float:
        w = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
        h = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
        return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)

    def with_one_more(a: Box, b: Box, *_: float) -> float:
        w, h = (max(0.0, side + 1) for side in _shared(a, b))
        one, two = ((sides[0] + 1) * (sides[1] + 1) for sides in (_sides(a), _sides(b)))
        return w * h / (one + two - w * h)

    def hull(a: Box, b: Box, one: float, two: float, both: float) -> float:
        return both / ((max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1])))

    todo = "Return one number from 0 to 1."
    answers = []
    for a, b in PAIRS:
        found = attempt(iou, a, b, todo=todo)
        if found is None:
            return
        answers.append(float(torch.as_tensor(found)))
    judge(
        torch.tensor(answers),
        _over_pairs(lambda a, b, one, two, both: both / (one + two - both)),
        {
            "Boxes that lie apart share nothing, and two negative sides give a positive area: cut width and "
            "height off at 0.": _over_pairs(signed),
            "What both share is counted twice in the sum of the areas. Subtract it once.": _over_pairs(
                lambda a, b, one, two, both: both / (one + two)
            ),
            "This is the share of one box alone. A box that covers everything would win. Divide by what both "
            "cover together.": (
                _over_pairs(lambda a, b, one, two, both: both / one),
                _over_pairs(lambda a, b, one, two, both: both / two),
            ),
            "This divides by the smaller box: a tiny box within a large one would be perfect.": _over_pairs(
                lambda a, b, one, two, both: both / min(one, two)
            ),
            "This divides by the larger box. Divide by what both cover together.": _over_pairs(
                lambda a, b, one, two, both: both / max(one, two)
            ),
            "The last two numbers are right and bottom, not width and height.": _over_pairs(as_sizes),
            "A side is right minus left: with one more, as for counted pixels, boxes that touch "
            "overlap.": _over_pairs(with_one_more),
            "This divides by the box around both, which covers more than they do.": _over_pairs(hull),
            "This is 1 minus the overlap: a distance, 0 for equal boxes.": _over_pairs(
                lambda a, b, one, two, both: 1 - both / (one + two - both)
            ),
            "This is the shared area in pixels. Divide it by what both cover together.": _over_pairs(
                lambda a, b, one, two, both: both
            ),
            "This is the Dice score, twice the shared area by the sum of areas: near, and always "
            "higher.": _over_pairs(lambda a, b, one, two, both: 2 * both / (one + two)),
        },
        praise="apart is 0, alike is 1, and a box within another is not a perfect answer.",
    )


def _collect_boxes(
    function: Callable[..., Any] | None, cases: Sequence[tuple[Any, ...]], *, todo: str
) -> Tensor | None:
    """Return the box that a function gives in each case, (N, 4); say what came instead, and return None."""
    boxes = []
    for case in cases:
        found = attempt(function, *case, todo=todo)
        if found is None:
            return None
        try:
            boxes.append([float(edge) for edge in found])  # type: ignore[attr-defined]
        except (TypeError, ValueError):
            print(f"Not yet: a {type(found).__name__} arrived. {todo}")
            return None
        if len(boxes[-1]) != 4:
            print(f"Not yet: {len(boxes[-1])} numbers arrived. {todo}")
            return None
    return torch.tensor(boxes)


MOVED: tuple[tuple[Box, int, float], ...] = (
    ((40, 48, 72, 80), 128, 0.8),
    ((0, 20, 30, 60), 128, 0.8),
    ((100, 90, 224, 224), 224, 0.875),
)


def check_moved_box(move_box: Callable[[Box, int, float], Any] | None) -> None:
    """Print whether a function moves a box with a picture that is resized and cropped in its middle.

    Args:
        move_box: The learner's `function(box, size, pct)`.

    Example:
        >>> from tlutils.checks import lesson_09
        >>> lesson_09.check_moved_box(lambda box, size, pct: [edge / pct for edge in box])
        Resized, and not cropped: the middle begins at a margin, (size / pct - size) / 2. Subtract it from all
        four.
    """

    def over(rule: Callable[[Box, int, float], Sequence[float]], *, cut: bool = True) -> Tensor:
        rows = []
        for box, size, pct in MOVED:
            moved = [float(v) for v in rule(box, size, pct)]
            rows.append([min(max(v, 0.0), float(size)) for v in moved] if cut else moved)
        return torch.tensor(rows)

    def right(box: Box, size: int, pct: float) -> list[float]:
        return [v / pct - (size / pct - size) / 2 for v in box]

    todo = "Return left, top, right, bottom in pixels of the picture that was cut out."
    answers = _collect_boxes(move_box, MOVED, todo=todo)
    if answers is None:
        return

    def resized(box: Box, size: int, pct: float) -> list[float]:
        return [v / pct for v in box]

    def cropped(box: Box, size: int, pct: float) -> list[float]:
        return [v - (size / pct - size) / 2 for v in box]

    def whole_margin(box: Box, size: int, pct: float) -> list[float]:
        return [v / pct - (size / pct - size) for v in box]

    def smaller(box: Box, size: int, pct: float) -> list[float]:
        return [v * pct - (size * pct - size) / 2 for v in box]

    def added(box: Box, size: int, pct: float) -> list[float]:
        return [v / pct + (size / pct - size) / 2 for v in box]

    def margin_first(box: Box, size: int, pct: float) -> list[float]:
        return [(v - (size / pct - size) / 2) / pct for v in box]

    def first_two(box: Box, size: int, pct: float) -> list[float]:
        moved = right(box, size, pct)
        return [*moved[:2], *(v / pct for v in box[2:])]

    def of_small(box: Box, size: int, pct: float) -> list[float]:
        return [v / pct - (size - size * pct) / 2 for v in box]

    judge(
        answers,
        over(right),
        {
            "Nearly, but for what lies outside: a box that leaves the picture ends at its border, 0 or "
            "size.": over(right, cut=False),
            "This box was not moved at all.": over(lambda box, size, pct: box, cut=False),
            "Resized, and not cropped: the middle begins at a margin, (size / pct - size) / 2. Subtract it "
            "from all four.": (over(resized), over(resized, cut=False)),
            "Cropped, and not resized: the picture was made larger first. Divide by pct.": (
                over(cropped),
                over(cropped, cut=False),
            ),
            "The whole margin was subtracted. Half of it lies at the left and half at the right.": (
                over(whole_margin),
                over(whole_margin, cut=False),
            ),
            "The box became smaller, and the picture larger: divide by pct.": (
                over(smaller),
                over(smaller, cut=False),
            ),
            "The margin was added. What is cut off at the left brings the box nearer to 0.": (
                over(added),
                over(added, cut=False),
            ),
            "The margin is in pixels of the resized picture: resize the box first, then subtract.": (
                over(margin_first),
                over(margin_first, cut=False),
            ),
            "Left and top were moved, and right and bottom were not: the crop moves all four.": (
                over(first_two),
                over(first_two, cut=False),
            ),
            "This margin is one of the picture before it was resized: it is (size / pct - size) / 2.": (
                over(of_small),
                over(of_small, cut=False),
            ),
        },
        praise="what happens to the picture happens to its boxes.",
    )


def check_segmenter(train_segmenter: Callable[[Tensor, Tensor, int], nn.Module] | None) -> None:
    """Print whether a function trains a head that segments new maps, or which mistake it makes.

    It is trained on maps of two sizes and numbers of classes, and judged by the mean IoU on others.

    Args:
        train_segmenter: The learner's `function(maps, labels, classes)`; it returns a 1×1 `nn.Conv2d`.

    Example:
        >>> from torch import nn
        >>> from tlutils.checks import lesson_09
        >>> lesson_09.check_segmenter(lambda maps, labels, classes: nn.Conv2d(maps.shape[1], classes, 1))
        The head scores no better than one that was never trained (mean IoU 0.02). Step by step:
        cross_entropy(head(maps), labels), backward, step. Leave axes as they are: (N, classes, h, w) and
        (N, h, w).
    """
    overlaps = []
    for classes, channels, size in ((3, 8, (6, 5)), (4, 10, (4, 7))):
        with runtime.seeded(classes):
            meaning = torch.randn(classes, channels)
            labels = torch.zeros(60, *size, dtype=torch.long)
            for k in range(60):  # each picture has a strip of one thing on its ground
                labels[k, : int(torch.randint(1, size[0], ()))] = k % classes
                labels[k, :, int(torch.randint(2, size[1], ())) :] = 0
            maps = meaning[labels].permute(0, 3, 1, 2) + 0.4 * torch.randn(60, channels, *size)
            given = maps[:40].clone(), labels[:40].clone()
            with torch.enable_grad():
                todo = "Return the trained nn.Conv2d."
                found = attempt(train_segmenter, *given, classes, todo=todo)
        if found is None:
            return
        fault = _fault_of_segmenter(found, given, maps, labels, classes)
        if isinstance(fault, str):
            print(fault)
            return
        overlaps.append(fault)
    print(f"Right: mean IoU {min(overlaps):.2f} or better on maps that it has not seen, with one layer.")


def _mean_iou(said: Tensor, labels: Tensor, classes: int) -> float:
    """Return the intersection over union of each class over all places, averaged over classes."""
    pairs = [(said == k, labels == k) for k in range(classes)]
    return sum(float((a & b).sum() / (a | b).sum().clamp(min=1)) for a, b in pairs) / classes


def _fault_of_segmenter(
    found: Any, given: tuple[Tensor, Tensor], maps: Tensor, labels: Tensor, classes: int
) -> str | float:
    """Return what is wrong with a trained head, or its mean IoU on new maps where nothing is."""
    if not isinstance(found, nn.Conv2d) or found.kernel_size != (1, 1):
        what = (
            f"A convolution of {found.kernel_size[0]} × {found.kernel_size[1]}"
            if isinstance(found, nn.Conv2d)
            else f"A {type(found).__name__}"
        )
        return f"{what} came back. Expected an nn.Conv2d with kernel_size=1."
    if not torch.equal(given[0], maps[:40]) or not torch.equal(given[1], labels[:40]):
        return "The maps or labels that arrived were changed in place. They are kept for other heads, too."
    if found.out_channels != classes:
        return (
            f"The head gives {found.out_channels} scores for each place. Expected one for each of the "
            f"{classes} classes; the ground is class 0."
        )
    with torch.no_grad():
        said = [found(part).argmax(1) for part in (maps[:40], maps[40:])]
    known, new = (_mean_iou(a, b, classes) for a, b in zip(said, (labels[:40], labels[40:]), strict=True))
    if new >= 0.8:
        return new
    if all(bool((part == 0).all()) for part in said):
        return "It says ground everywhere: most places are. It needs more steps, or a larger rate."
    if known < 0.3:
        return (
            f"The head scores no better than one that was never trained (mean IoU {new:.2f}). Step by step: "
            "cross_entropy(head(maps), labels), backward, step. Leave axes as they are: (N, classes, h, w) "
            "and (N, h, w)."
        )
    return (
        f"It has begun to learn: mean IoU {new:.2f}, and one layer reaches 0.8. Take more steps or a larger "
        "rate."
    )


def check_tags(train_tags: Callable[[Tensor, Tensor], nn.Module] | None) -> None:
    """Print whether a function trains one head for several tags at once, or which mistake it makes.

    Some pictures have no tag and some have all, which a softmax cannot say.

    Args:
        train_tags: The learner's `function(x, tags)`; it returns an `nn.Linear` from features to logits.

    Example:
        >>> from torch import nn
        >>> from tlutils.checks import lesson_09
        >>> def with_sigmoid(x, tags):
        ...     return nn.Sequential(nn.Linear(x.shape[1], tags.shape[1]), nn.Sigmoid())
        >>> lesson_09.check_tags(with_sigmoid)
        These are probabilities: all are above 0. Return logits, and binary_cross_entropy_with_logits takes
        the sigmoid itself.
    """
    with runtime.seeded(0):
        meaning = torch.randn(3, 12)
        tags = (torch.arange(240)[:, None] >> torch.arange(3) & 1).float()  # each of eight sets, in turn
        x = tags @ meaning + 0.3 * torch.randn(240, 12)
        given = x[:160].clone(), tags[:160].clone()
        todo = "Return the trained nn.Linear."
        with torch.enable_grad():
            found = attempt(train_tags, *given, todo=todo)
    if found is None:
        return
    print(_fault_of_tags(found, given, x, tags) or "Right: none, one or all of them, each asked by itself.")


def _fault_of_tags(found: Any, given: tuple[Tensor, Tensor], x: Tensor, tags: Tensor) -> str | None:
    """Return what is wrong with a head that should give a logit for each of several tags."""
    if not isinstance(found, nn.Module):
        return f"A {type(found).__name__} came back. Expected the trained nn.Linear."
    if not torch.equal(given[0], x[:160]) or not torch.equal(given[1], tags[:160]):
        return "The features or tags that arrived were changed in place. They are kept for other heads, too."
    with torch.no_grad():
        try:
            out = found(x[160:])
        except RuntimeError as error:
            return f"The head does not take features (N, {x.shape[1]}): {str(error).splitlines()[0]}."
    wanted = tags[160:]
    if out.shape != wanted.shape:
        return f"Eighty rows give {tuple(out.shape)}. Expected a logit for each tag, {tuple(wanted.shape)}."

    def share_right(border: float) -> float:
        return float(((out > border) == (wanted > 0)).float().mean())

    if share_right(0) >= 0.95:
        return None
    if out.min() >= 0 and out.max() <= 1:
        return (
            "These are probabilities: all are above 0. Return logits, and binary_cross_entropy_with_logits "
            "takes the sigmoid itself."
        )
    if share_right(0.5) >= 0.95:
        return (
            "The border lies at 0.5, as after squared error. With binary cross-entropy it is at 0, and "
            "errors far from it count."
        )
    one, every = wanted.sum(1) == 1, wanted.sum(1) == wanted.shape[1]
    names_one = float((out[one].argmax(1) == wanted[one].argmax(1)).float().mean())
    if names_one >= 0.9 and float((out[every] > 0).float().mean()) < 0.95:
        return (
            "The tags compete, as under softmax: what has all of them is not told so. Ask for each tag by "
            "itself: binary_cross_entropy_with_logits."
        )
    return (
        f"The head answers {share_right(0):.2f} of the questions rightly, and one layer can answer 0.95. Has "
        "each step its backward and its step, and are there enough of them?"
    )
