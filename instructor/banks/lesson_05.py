"""Answers to the exercises of lesson 05: check -> (answer, word of what is said of it)."""

from tlutils.checks import lesson_05
from tlutils.intervals import two_way_mean

ANSWERS = {}


def paired(hits):
    best = max(hits, key=lambda name: hits[name].mean())
    return next(n for n in hits if n == best or two_way_mean(hits[n] - hits[best]).interval().high >= 0)


def unpaired(hits):
    best = max(hits, key=lambda name: hits[name].mean())
    floor = two_way_mean(hits[best]).interval().low
    return next(name for name in hits if two_way_mean(hits[name]).interval().high >= floor)


ANSWERS[lesson_05.check_cheapest] = [
    (None, "Not answered"),
    (lambda hits: None, "Not answered"),
    (paired, "Right"),
    (unpaired, "Subtract image by image"),
    (lambda hits: max(hits, key=lambda name: hits[name].mean()), "by the mean alone"),
    (lambda hits: next(iter(hits)), "keep a cheaper one"),
    (lambda hits: 0, "Expected one of probe"),
    (lambda hits: hits["scratch"], "stopped with KeyError"),
]

ANSWERS[lesson_05.check_gate] = [
    (None, "Not answered"),
    (lambda scratch, pixels: not two_way_mean(scratch - pixels).interval().high < 0, "Right"),
    (lambda scratch, pixels: two_way_mean(pixels - scratch).interval().low <= 0, "Right"),
    (lambda scratch, pixels: scratch.mean() >= pixels.mean(), "less than the noise"),
    (lambda scratch, pixels: two_way_mean(scratch - pixels).interval().low > 0, "less than the noise"),
    (lambda scratch, pixels: True, "far below the pixels"),
    (lambda scratch, pixels: scratch.mean() < pixels.mean(), "ahead of the pixels"),
    (lambda scratch, pixels: scratch.tobias(), "stopped with AttributeError"),
]


def endless(of_judges=1.0, of_rest=1.0, factor=1.96, ddof=1):
    def half_width(hits):
        S, N = hits.shape
        rest = ((hits - hits.mean(1, keepdims=True) - hits.mean(0) + hits.mean()) ** 2).sum() / (
            (S - 1) * (N - 1)
        )
        judges = S * hits.mean(0).var(ddof=ddof)
        return factor * ((of_judges * judges - of_rest * rest) / (S * N)) ** 0.5

    return half_width


def half_of_now(hits):
    low, high = two_way_mean(hits).interval()[1:]
    return (high - low) / 2


ANSWERS[lesson_05.check_endless_seeds] = [
    (None, "Not answered"),
    (lambda hits: None, "Not answered"),
    (endless(), "Right"),
    (lambda hits: 0.0, "so does their luck"),
    (endless(of_rest=0), "averages out"),
    (half_of_now, "the seeds that you have"),
    (endless(factor=2 * 1.96), "whole interval"),
    (endless(factor=1), "standard error"),
    (endless(ddof=0), "number of judges - 1"),
    (lambda hits: 0.5, "two are left"),
    (lambda hits: hits[99], "IndexError"),
]


def gap(
    over=(0, 2, 3), own="std", kept=0.5, unit=1.0, pick=lambda told: told.median(), means=1.0, widths=1.0
):
    def layer_gap(z, mean, var):
        told = means * (z.mean(over) - mean) ** 2 + widths * (getattr(z, own)(over) - var**kept) ** 2
        return pick(told / var**unit)

    return layer_gap


ANSWERS[lesson_05.check_layer_gap] = [
    (lambda z, mean, var: None, "Not answered"),
    (gap(), "Right"),
    (gap(pick=lambda told: told.mean()), "wild ones"),
    (gap(pick=lambda told: told), "now take their median"),
    (gap(kept=1.0), "its root"),
    (gap(own="var", kept=1.0), "its root"),
    (gap(unit=0.5), "its square"),
    (gap(unit=0.0), "Not divided"),
    (gap(widths=0.0), "standard deviations is missing"),
    (gap(means=0.0), "of the means is missing"),
    (lambda z, mean, var: gap(over=0)(z.mean((2, 3)), mean, var), "averaged over places first"),
    (gap(over=(0, 1, 2, 3)), "each has its own"),
    (lambda z, mean, var: 0.0, "Not yet"),
    (lambda z, mean, var: z.tobias(), "AttributeError"),
]
