"""Worked solutions of lesson 08: run it, and each check says that it is right."""

import numpy as np

from tlutils.checks import lesson_08


def mixup(x, goal, lam, order):
    share = lam[:, None, None, None]  # (n, 1, 1, 1)
    blended = share * x + (1 - share) * x[order]
    return blended, lam[:, None] * goal + (1 - lam[:, None]) * goal[order]


def early_stop(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    return best


def average_views(logits):
    return logits.softmax(-1).mean(0)


def hold_out(groups, share, seed):
    every = np.unique(groups)
    drawn = np.random.default_rng(seed).permutation(every)[: round(share * len(every))]
    return np.isin(groups, drawn)


lesson_08.check_mixup(mixup)
lesson_08.check_early_stop(early_stop)
lesson_08.check_views(average_views)
lesson_08.check_hold_out(hold_out)
