"""Answers to the exercises of lesson 09: check -> (answer, word of what is said of it)."""

from torch import nn

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


def pixels(cells, grid, size):
    left, top, right, bottom = cells
    return [edge * size / grid for edge in (left, top, right + 1, bottom + 1)]


ANSWERS[lesson_09.check_pixels] = [
    (pixels, "Right"),
    (lambda c, g, s: [v * s / g for v in c], "It has a width, too"),
    (lambda c, g, s: [(v + 0.5) * s / g for v in c], "middles"),
    (lambda c, g, s: [pixels(c, g, s)[k] for k in (1, 0, 3, 2)], "exchanged"),
    (lambda c, g, s: [c[0] * s / g, c[1] * s / g, c[2] * s / g + 1, c[3] * s / g + 1], "not one place"),
    (lambda c, g, s: c, "Still in places"),
    (lambda c, g, s: [c[0], c[1], c[2] + 1, c[3] + 1], "Still in places"),
    (lambda c, g, s: [v - (k > 1) for k, v in enumerate(pixels(c, g, s))], "edges between pixels"),
    (
        lambda c, g, s: [*pixels(c, g, s)[:2], (c[2] - c[0] + 1) * s / g, (c[3] - c[1] + 1) * s / g],
        "Width and",
    ),
    (lambda c, g, s: [(v + 1) * s / g for v in c], "All four were moved"),
    (lambda c, g, s: [v * g / s for v in (c[0], c[1], c[2] + 1, c[3] + 1)], "divided by"),
    (lambda c, g, s: pixels(c, g, s)[:3], "3 numbers arrived"),
    (lambda c, g, s: 7, "a int arrived"),
    (lambda c, g, s: [0, 0, 0, 0], "Not yet"),
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
