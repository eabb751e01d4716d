"""Answers to the exercises of lesson 01c: check -> (answer, word of what is said of it)."""

import torch

from tlutils.checks import lesson_01c

ANSWERS = {}


def rms(gradient):
    return gradient.square().mean((1, 2, 3), keepdim=True).sqrt()


def stepped(by):
    return lambda p, g, size: (p + size * by(g)).clamp(0, 1)


ANSWERS[lesson_01c.check_fooling_step] = [
    (None, "Not answered"),
    (lambda p, g, size: None, "Not answered"),
    (stepped(lambda g: g / rms(g)), "Right"),
    (stepped(lambda g: g), "happens to be"),
    (stepped(lambda g: -g / rms(g)), "went down"),
    (stepped(lambda g: g / g.square().mean().sqrt()), "whole batch"),
    (stepped(lambda g: g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)), "whole length"),
    (stepped(lambda g: g / rms(g) ** 2), "root is missing"),
    (stepped(lambda g: g / g.std((1, 2, 3), keepdim=True)), "spread"),
    (stepped(lambda g: g / g.abs().amax((1, 2, 3), keepdim=True)), "largest"),
    (stepped(lambda g: g.sign()), "fast gradient sign"),
    (lambda p, g, size: p + size * g / rms(g), "darker than black"),
    (lambda p, g, size: size * g / rms(g), "Add it to the picture"),
    (lambda p, g, size: p[0], "got (3, 4, 4)"),
    (lambda p, g, size: p + g[:, :2], "stopped with RuntimeError"),
]


def moved(images, down, right):
    return images.roll((down, right), (2, 3))


def there(slope, p, s):
    return slope(moved(p, *s))


ANSWERS[lesson_01c.check_jitter] = [
    (None, "Not answered"),
    (lambda slope, p, s: moved(there(slope, p, s), -s[0], -s[1]), "Right"),
    (lambda slope, p, s: there(slope, p, s), "shift it back"),
    (lambda slope, p, s: moved(there(slope, p, s), *s), "twice the same way"),
    (lambda slope, p, s: slope(p), "Shift it first"),
    (lambda slope, p, s: moved(slope(p), -s[0], -s[1]), "gradient alone"),
    (lambda slope, p, s: moved(there(slope, p, s[::-1]), -s[1], -s[0]), "swapped: height"),
    (lambda slope, p, s: moved(there(slope, p, s), -s[1], -s[0]), "On the way back"),
    (lambda slope, p, s: slope(p.roll(s, (0, 1))).roll((-s[0], -s[1]), (0, 1)), "first two axes"),
    (lambda slope, p, s: p[0], "got (3, 6, 7)"),
    (lambda slope, p, s: p.roll(s, 2), "stopped with RuntimeError"),
]


def blurring(when, *, what="after"):
    def climb(slope, blur, picture, rate, steps):
        for k in range(steps):
            picture = blur(picture) if what == "before" and when(k) else picture
            up = slope(picture)
            picture = picture + rate * (blur(up) if what == "gradient" and when(k) else up)
            picture = blur(picture) if what == "after" and when(k) else picture
        return picture

    return climb


ANSWERS[lesson_01c.check_blur] = [
    (None, "Not answered"),
    (lambda *a: None, "Not answered"),
    (blurring(lambda k: (k + 1) % 10 == 0), "Right"),
    (blurring(lambda k: True, what="gradient"), "blurred the gradient"),
    (blurring(lambda k: (k + 1) % 10 == 0, what="gradient"), "blurred the gradient"),
    (blurring(lambda k: k % 10 == 0, what="gradient"), "blurred the gradient"),
    (blurring(lambda k: False), "Nothing was blurred"),
    (blurring(lambda k: True), "after every step"),
    (lambda slope, blur, *rest: blur(blurring(lambda k: False)(slope, blur, *rest)), "at the end"),
    (blurring(lambda k: k % 10 == 0), "Count from one"),
    (blurring(lambda k: k % 10 == 0, what="before"), "Count from one"),
    (blurring(lambda k: (k + 1) % 10 == 0, what="before"), "not before it"),
    (
        lambda slope, blur, p, rate, steps: blurring(lambda k: (k + 1) % 10 == 0)(
            slope, blur, p, -rate, steps
        ),
        "went down",
    ),
    (lambda slope, blur, p, rate, steps: p + rate * slope(p), "one step"),
    (lambda slope, blur, p, rate, steps: p[0], "got (3, 6, 7)"),
    (lambda slope, blur, p, rate, steps: slope, "got"),
    (lambda slope, blur, p, rate, steps: blur(p, 0.5), "stopped with TypeError"),
]


ANSWERS[lesson_01c.check_gram_matrix] = [
    (None, "Not answered"),
    (lambda m: m.flatten(2) @ m.flatten(2).mT, "sum over the places"),
    (lambda m: m.flatten(2).mT @ m.flatten(2) / m.shape[1], "places with places"),
    (lambda m: torch.stack([torch.cov(one.flatten(1), correction=0) for one in m]), "covariance"),
    (lambda m: (m.flatten(2) @ m.flatten(2).mT / m[0, 0].numel()).mean(0), "each image"),
    (lambda m: m.flatten(2) @ m.flatten(2).mT / m[0].numel(), "channels, too"),
    (lambda m: m, "(2, 3, 3)"),
]


def together(maps):
    return torch.einsum("nihw,njhw->nij", maps, maps)


def gram(maps):
    return together(maps) / maps[0, 0].numel()


def missed(found, wanted):
    return (found - wanted).flatten(1).square().sum(1) / wanted.flatten(1).square().sum(1)


def content(f, photo, stage="late"):
    return missed(f[stage], photo[stage])


def style(f, cloth, stage="early"):
    return missed(gram(f[stage]), gram(cloth[stage]))


ANSWERS[lesson_01c.check_style_transfer_loss] = [
    (None, "Not answered"),
    (lambda f, photo, cloth, b: None, "Not answered"),
    (lambda f, photo, cloth, b: content(f, photo) + b * style(f, cloth), "Right"),
    (
        lambda f, photo, cloth, b: (
            content(f, photo) + b * missed(together(f["early"]), together(cloth["early"]))
        ),
        "divide by their number",
    ),
    (
        lambda f, photo, cloth, b: content(f, photo, "early") + b * style(f, cloth),
        "content at the stage of the style",
    ),
    (
        lambda f, photo, cloth, b: content(f, photo) + b * style(f, cloth, "late"),
        "style at the stage of the content",
    ),
    (lambda f, photo, cloth, b: content(f, photo, "early") + b * style(f, cloth, "late"), "swapped"),
    (lambda f, photo, cloth, b: content(f, photo) + b * style(f, photo), "the style image's"),
    (
        lambda f, photo, cloth, b: style(f, photo, "late") + b * style(f, cloth),
        "Content keeps its places",
    ),
    (lambda f, photo, cloth, b: b * content(f, photo) + style(f, cloth), "belongs to the style"),
    (lambda f, photo, cloth, b: content(f, photo) + style(f, cloth), "weight is missing"),
    (lambda f, photo, cloth, b: content(f, photo), "content alone"),
    (lambda f, photo, cloth, b: style(f, cloth), "style alone"),
    (lambda f, photo, cloth, b: b * style(f, cloth), "style alone"),
    (
        lambda f, photo, cloth, b: (
            content(f, photo) + b * (gram(f["early"]) - gram(cloth["early"])).square().sum((1, 2))
        ),
        "drowns the other",
    ),
    (lambda f, photo, cloth, b: (content(f, photo) + b * style(f, cloth)).mean(), "whole batch"),
    (lambda f, photo, cloth, b: f["late"], "got (2, 3, 2, 2)"),
    (lambda f, photo, cloth, b: f, "got dict"),
    (lambda f, photo, cloth, b: f["late"] - cloth["late"], "stopped with RuntimeError"),
    (lambda f, photo, cloth, b: f["middle"], "stopped with KeyError"),
]
