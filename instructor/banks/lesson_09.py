"""Answers to the exercises of lesson 09: check -> (answer, word of what is said of it)."""

import torch
from torch import nn
from torch.nn import functional as F

from tlutils.checks import lesson_09

ANSWERS = {}


def as_convolution(linear):
    found = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
    found.load_state_dict(
        {k: v if k == "bias" else v[:, :, None, None] for k, v in linear.state_dict().items()}
    )
    return found


def fresh(linear):
    return nn.Conv2d(linear.in_features, linear.out_features, 1)


def transposed(linear):
    found = as_convolution(linear)
    found.weight.data = linear.weight.detach().T[:, :, None, None]
    return found


def without_bias(linear):
    found = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=False)
    found.weight.data = linear.weight.detach()[:, :, None, None]
    return found


def bias_of_its_own(linear):
    found = nn.Conv2d(linear.in_features, linear.out_features, 1)
    found.weight.data = linear.weight.detach()[:, :, None, None]
    if linear.bias is not None:
        found.bias.data = linear.bias.detach()
    return found


def three_by_three(linear):
    return nn.Conv2d(linear.in_features, linear.out_features, 3, padding=1)


def padded(linear):
    return nn.Conv2d(linear.in_features, linear.out_features, 1, padding=1)


def grouped(linear):
    return nn.Conv2d(linear.in_features, linear.out_features, 1, groups=3)


def exchanged(linear):
    return nn.Conv2d(linear.out_features + 1, linear.in_features, 1)


ANSWERS[lesson_09.check_convolution] = [
    (as_convolution, "Right"),
    (fresh, "weights of its own"),
    (transposed, "transposed"),
    (without_bias, "bias is not: copy it"),
    (bias_of_its_own, "Give bias=False"),
    (three_by_three, "3 × 3"),
    (padded, "No stride, no padding"),
    (grouped, "groups"),
    (exchanged, "does not take 3 channels"),
    (lambda linear: linear, "A Linear came back"),
    (lambda linear: 1 / 0, "ZeroDivisionError"),
    (None, "Not answered yet"),
]


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def shared(a, b):
    sides = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1)]
    return max(0, sides[0]) * max(0, sides[1])


def iou(a, b):
    return shared(a, b) / (area(a) + area(b) - shared(a, b))


def signed(a, b):
    sides = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1)]
    both = sides[0] * sides[1]
    return both / (area(a) + area(b) - both)


def as_sizes(a, b):
    return iou(*((q[0], q[1], q[0] + q[2], q[1] + q[3]) for q in (a, b)))


def one_more(a, b):
    sides = [max(0, min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + 1) for k in (0, 1)]
    areas = [(q[2] - q[0] + 1) * (q[3] - q[1] + 1) for q in (a, b)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])


def hull(a, b):
    return shared(a, b) / area([min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])])


ANSWERS[lesson_09.check_iou] = [
    (iou, "Right"),
    (signed, "lie apart share nothing"),
    (lambda a, b: shared(a, b) / (area(a) + area(b)), "counted twice"),
    (lambda a, b: shared(a, b) / area(a), "share of one box alone"),
    (lambda a, b: shared(a, b) / area(b), "share of one box alone"),
    (lambda a, b: shared(a, b) / min(area(a), area(b)), "smaller box"),
    (lambda a, b: shared(a, b) / max(area(a), area(b)), "larger box"),
    (as_sizes, "not width and height"),
    (one_more, "boxes that touch"),
    (hull, "box around both"),
    (lambda a, b: 1 - iou(a, b), "a distance"),
    (shared, "shared area in pixels"),
    (lambda a, b: 2 * shared(a, b) / (area(a) + area(b)), "Dice"),
    (lambda a, b: 0.5, "Not yet"),
    (lambda a, b: a + 1, "TypeError"),
    (None, "Not answered yet"),
]


def trained(head, loss_of, steps=150, rate=0.05):
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(head).backward()
        optimizer.step()
    return head


def segmenter(loss=F.cross_entropy, kernel=1, outputs=None, **options):
    """A function that trains a head for places; right unless something else is given."""

    def train(maps, labels, classes):
        head = nn.Conv2d(maps.shape[1], outputs or classes, kernel)
        return trained(head, lambda head: loss(head(maps), labels), **options)

    return train


def of_each_class(logits, labels):
    wanted = F.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).float()
    return F.binary_cross_entropy_with_logits(logits, wanted)


def reshaped(logits, labels):
    return F.cross_entropy(logits.reshape(-1, logits.shape[1]), labels.flatten())


def pooled(logits, labels):
    return F.cross_entropy(logits.mean((2, 3)), labels[:, 0, 0])


def in_place_maps(maps, labels, classes):
    maps -= maps.mean()
    return segmenter()(maps, labels, classes)


ANSWERS[lesson_09.check_segmenter] = [
    (segmenter(), "Right"),
    (segmenter(loss=of_each_class), "Right"),
    (segmenter(steps=0), "never trained"),
    (segmenter(steps=2, rate=0.2), "It has begun to learn"),
    (segmenter(loss=reshaped), "Leave axes as they are"),
    (
        segmenter(loss=lambda logits, labels: F.cross_entropy(logits, torch.zeros_like(labels))),
        "ground everywhere",
    ),
    (segmenter(kernel=3, loss=lambda logits, labels: logits.mean()), "A convolution of 3 × 3"),
    (segmenter(outputs=1, loss=lambda logits, labels: logits.mean()), "The head gives 1 scores"),
    (segmenter(outputs=5), "The head gives 5 scores"),
    (in_place_maps, "changed in place"),
    (lambda maps, labels, classes: segmenter()(maps, labels, classes)(maps), "A Tensor came back"),
    (lambda maps, labels, classes: nn.Linear(maps.shape[1], classes)(maps), "RuntimeError"),
    (None, "Not answered yet"),
]


def tagger(loss=F.binary_cross_entropy_with_logits, build=nn.Linear, **options):
    """A function that trains a head for tags; right unless something else is given."""

    def train(x, tags):
        head = build(x.shape[1], tags.shape[1])
        return trained(head, lambda head: loss(head(x), tags), **options)

    return train


def with_sigmoid(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, outputs), nn.Sigmoid())


def in_place_tags(x, tags):
    tags *= 2
    tags -= 1
    return tagger(loss=lambda logits, tags: F.soft_margin_loss(logits, tags))(x, tags)


ANSWERS[lesson_09.check_tags] = [
    (tagger(), "Right"),
    (tagger(loss=lambda logits, tags: F.binary_cross_entropy(logits.sigmoid(), tags)), "Right"),
    (tagger(loss=F.cross_entropy), "The tags compete"),
    (tagger(loss=lambda logits, tags: F.cross_entropy(logits, tags.argmax(1))), "The tags compete"),
    (tagger(loss=F.binary_cross_entropy, build=with_sigmoid), "These are probabilities"),
    (tagger(loss=F.mse_loss, steps=300), "The border lies at 0.5"),
    (tagger(steps=0), "of the questions rightly"),
    (
        tagger(build=lambda inputs, outputs: nn.Linear(inputs, 1), loss=lambda out, tags: out.mean()),
        "Eighty rows",
    ),
    (lambda x, tags: nn.Linear(3, 12), "does not take features"),
    (lambda x, tags: tagger()(x, tags)(x), "A Tensor came back"),
    (in_place_tags, "changed in place"),
    (lambda x, tags: tagger()(tags, x.T), "ValueError"),
    (None, "Not answered yet"),
]


def moved(box, size, pct):
    margin = (size / pct - size) / 2
    return [min(max(edge / pct - margin, 0), size) for edge in box]


def cut(edges, size):
    return [min(max(edge, 0), size) for edge in edges]


ANSWERS[lesson_09.check_moved_box] = [
    (moved, "Right"),
    (lambda b, s, p: [e / p - (s / p - s) / 2 for e in b], "but for what lies outside"),
    (lambda b, s, p: b, "not moved at all"),
    (lambda b, s, p: cut([e / p for e in b], s), "Resized, and not cropped"),
    (lambda b, s, p: [e - (s / p - s) / 2 for e in b], "Cropped, and not resized"),
    (lambda b, s, p: cut([e / p - (s / p - s) for e in b], s), "The whole margin"),
    (lambda b, s, p: cut([e * p - (s * p - s) / 2 for e in b], s), "became smaller"),
    (lambda b, s, p: [e / p + (s / p - s) / 2 for e in b], "was added"),
    (lambda b, s, p: cut([(e - (s / p - s) / 2) / p for e in b], s), "resize the box first"),
    (lambda b, s, p: cut([*moved(b, s, p)[:2], b[2] / p, b[3] / p], s), "crop moves all four"),
    (lambda b, s, p: cut([e / p - (s - s * p) / 2 for e in b], s), "before it was resized"),
    (lambda b, s, p: moved(b, s, p)[:2], "2 numbers arrived"),
    (lambda b, s, p: "box", "a str arrived"),
    (lambda b, s, p: [1, 2, 3, 4], "Not yet"),
    (None, "Not answered yet"),
]
