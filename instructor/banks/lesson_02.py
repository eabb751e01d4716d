"""Answers to the exercises of lesson 02: check -> (answer, word of what is said of it)."""

import numpy as np
import torch
from torch.nn import functional as F

from tlutils.checks import lesson_02

ANSWERS = {}


def by(x, like):
    std = like.std(0)
    return (x - like.mean(0)) / np.where(std > 0, std, 1)


def in_place(known, new):
    new -= known.mean(0)
    new /= np.where(known.std(0) > 0, known.std(0), 1)
    return new


def in_place_without_return(known, new):
    in_place(known, new)


def spread(known):
    """As round 1 of the lesson has it."""
    std = known.std(0)
    return np.maximum(std, 0.03 * np.median(std[std > 0]))


ANSWERS[lesson_02.check_standardise] = [
    (None, "Not answered"),
    (lambda known, new: None, "Not answered"),
    (lambda known, new: new.no_such_thing, "AttributeError"),
    (lambda known, new: by(new, known), "Right"),
    (lambda known, new: by(new, new), "own mean"),
    (lambda known, new: by(new, np.vstack([known, new])), "took part"),
    (lambda known, new: (new - known.mean()) / known.std(), "One mean for all"),
    (lambda known, new: new - known.mean(0), "nothing is divided"),
    (lambda known, new: (new - known.mean(0)) / (known.var(0) + 1e-12), "variance"),
    (lambda known, new: new / np.maximum(known.std(0), 1e-9), "no mean"),
    (lambda known, new: (new - known.mean(0)) / known.std(0), "divided by 0"),
    (lambda known, new: (new - known.mean(0)) / (known.std(0) + 1e-8), "next to nothing"),
    (lambda known, new: (new - known.mean(0)) / np.maximum(known.std(0), 1e-4), "next to nothing"),
    (lambda known, new: (new - known.mean(0)) / (known.std(0) + 0.05), "to every standard deviation"),
    (lambda known, new: (new - known.mean(0)) / (known.std(0, ddof=1) + 0.01), "to every standard deviation"),
    (lambda known, new: (new - known.mean(0)) / np.maximum(known.std(0), 0.01), "Right"),
    (lambda known, new: (new - known.mean(0)) / spread(known), "Right"),
    (in_place, "writes into"),
    (in_place_without_return, "Nothing came back"),
    (lambda known, new: by(known, new), "shape"),
    (lambda known, new: new, "Not yet"),
    (lambda known, new: "done", "A str arrived"),
]


def softmax(logits, axis=1):
    e = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def step(link=softmax, sign=1, scale=1.0, of_weight=1.0, of_bias=0.0, swap=1):
    def softmax_step(W, b, z, y, lr, penalty):
        gap = swap * (link(z @ W.T + b) - np.eye(len(b))[y])
        of_W = scale * gap.T @ z / len(z) + of_weight * penalty * W
        of_b = scale * gap.mean(0) + of_bias * penalty * b
        return W - sign * lr * of_W, b - sign * lr * of_b

    return softmax_step


def changing_its_inputs(W, b, *others):
    W[:], b[:] = step()(W, b, *others)
    return W, b


def gap_not_transposed(W, b, z, y, lr, penalty):
    gap = softmax(z @ W.T + b) - np.eye(len(b))[y]
    return W - lr * (z.T @ gap / len(z) + penalty * W), b - lr * gap.mean(0)


def biases_by(slope):
    def own(W, b, z, y, lr, penalty):
        gap = softmax(z @ W.T + b, axis=1) - np.eye(len(b))[y]
        return step()(W, b, z, y, lr, penalty)[0], b - lr * slope(gap)

    return own


def without_return(W, b, *others):
    step()(W, b, *others)


ANSWERS[lesson_02.check_softmax_step] = [
    (None, "Not answered"),
    (step(), "Right"),
    (lambda W, b, *others: (W, b), "Nothing moved"),
    (step(sign=-1), "uphill"),
    (step(swap=-1), "wrong way round"),
    (step(scale=9), "divide by their number"),
    (step(of_weight=0), "penalty is missing"),
    (step(of_weight=0.5), "Half the penalty"),
    (step(of_weight=2), "Twice the penalty"),
    (step(of_bias=1), "W alone"),
    (step(link=lambda logits: logits), "softmax is missing"),
    (step(link=lambda logits: 1 / (1 + np.exp(-logits))), "sigmoid"),
    (step(link=lambda logits: softmax(logits, axis=0)), "over the images"),
    (lambda W, b, *others: (step()(W, b, *others)[0], b), "biases did not move"),
    (biases_by(lambda gap: gap.sum(0)), "sum over the images"),
    (biases_by(lambda gap: gap.mean()), "axis 0"),
    (biases_by(lambda gap: gap[0]), "biases are not"),
    (step(link=lambda logits: softmax(logits, axis=None)), "everything at once"),
    (changing_its_inputs, "changes the arrays"),
    (lambda W, b, *others: step()(W, b, *others)[0], "Two arrays"),
    (lambda W, b, *others: (step()(W, b, *others)[0].T, b), "transpose"),
    (gap_not_transposed, "transpose"),
    (without_return, "Nothing came back"),
    (step(scale=0.3), "Not yet"),
]


def nearest_in_distance(query, bank):
    return np.argmin(np.linalg.norm(bank - query, axis=1))


def furthest(query, bank):
    return np.argmin(bank @ query / np.linalg.norm(bank, axis=1))


def dot_product(query, bank):
    return np.argmax(bank @ query)


def standardised_first(query, bank):
    mean, std = bank.mean(0), spread(bank)
    return cosine((query - mean) / std, (bank - mean) / std)


def cosine(query, bank):
    return np.argmax(bank @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(query))


ANSWERS[lesson_02.check_nearest_neighbour] = [
    (None, "Not answered"),
    (cosine, "Right"),
    (dot_product, "long row"),
    (nearest_in_distance, "nearest in distance"),
    (furthest, "least"),
    (lambda query, bank: bank @ query, "one integer"),
    (lambda query, bank: (bank @ query / np.linalg.norm(bank, axis=1)).max(), "not a row number"),
    (standardised_first, "after standardising"),
    (lambda query, bank: 17, "does not exist"),
]


def trained(
    zero=True,
    rows_of=lambda rows: rows,
    factor=0.5,
    decay=0.0,
    link=lambda z: z,
    rate=1.0,
    make=torch.optim.SGD,
    size=lambda w: w.square().sum(),
    **of_loss,
):
    def train_head(head, z, y, lr, penalty, batches):
        optimizer = make(head.parameters(), lr=lr * rate, weight_decay=decay * penalty)
        for rows in map(rows_of, batches):
            if zero:
                optimizer.zero_grad()
            loss = F.cross_entropy(link(head(z[rows])), y[rows], **of_loss)
            (loss + factor * penalty * size(head.weight)).backward()
            optimizer.step()
        return head

    return train_head


def with_momentum(parameters, **others):
    return torch.optim.SGD(parameters, momentum=0.9, **others)


def trained_without_return(*inputs):
    trained()(*inputs)


def stopping_early(head, z, y, lr, penalty, batches):
    return trained()(head, z, y, lr, penalty, batches[:1])


def uphill(head, z, y, lr, penalty, batches):
    return trained()(head, z, y, -lr, penalty, batches)


def by_hand_uphill(head, z, y, lr, penalty, batches):
    for rows in batches:
        head.zero_grad()
        (F.cross_entropy(head(z[rows]), y[rows]) + penalty / 2 * head.weight.square().sum()).backward()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter += lr * parameter.grad
    return head


ANSWERS[lesson_02.check_minibatches] = [
    (None, "Not answered"),
    (lambda head, *others: None, "Not answered"),
    (trained(), "Right"),
    (trained(factor=0.0, decay=1.0), "holds the bias"),
    (lambda head, *others: head, "Nothing moved"),
    (stopping_early, "inside the loop"),
    (trained(zero=False), "add up"),
    (trained(rows_of=lambda rows: slice(None)), "saw all rows"),
    (trained(factor=0.0), "missing"),
    (trained(factor=1.0), "Twice"),
    (trained(factor=0.25), "Half"),
    (trained(reduction="sum"), "sum over"),
    (trained(link=lambda logits: logits.softmax(1)), "softmax inside"),
    (by_hand_uphill, "uphill"),
    (uphill, "ValueError"),
    (trained(rate=0.5), "Not yet"),
    (trained(size=torch.norm), "length itself"),
    (trained(factor=1.0, size=torch.norm), "length itself"),
    (trained(size=lambda w: w.square().mean()), "sum of the squares"),
    (trained(size=lambda w: w.abs().sum()), "Not yet"),
    (trained(make=torch.optim.Adam), "Adam"),
    (trained(make=torch.optim.AdamW), "Adam"),
    (trained(make=with_momentum), "momentum"),
    (trained_without_return, "Nothing came back"),
    (lambda head, *others: head.weight, "A Parameter came back"),
]
