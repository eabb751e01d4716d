"""Checks of the exercises in lessons 01, 01b and 01c."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def check_receptive_field(answer: int | None) -> None:
    """Print whether `answer` is the side of what 3×3 with stride 2, then 3×3 convolutions see, in pixels."""
    mistakes = {
        5: "That is right for stride 1. Here the second one's neighbours lie two pixels apart.",
        6: "Two squares of three pixels overlap: count the pixels from the first to the last.",
        9: "Areas do not multiply along a side. Draw one row: which pixels do three neighbours see together?",
        3: "That is what one unit of the first convolution sees. The second sees three such units.",
        49: "That is the area. The question is for one side.",
    }
    if answer is None:
        print("Not answered yet. Draw one row of pixels, and what three neighbouring units see of it.")
    elif answer == 7:
        print("Right: three units, two pixels apart, each three pixels wide: 3 + 2 + 2.")
    else:
        print(
            mistakes.get(
                answer, "Not yet. Draw one row of pixels, and what three neighbouring units see of it."
            )
        )


def check_similar_channels(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether `function(a, b)` is the cosine similarity of two vectors, or which mistake it is."""
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
    found = None if function is None else function(a, b)
    if found is None:
        print("Not answered yet. Return one number for two vectors: 1 when they point the same way.")
    elif not isinstance(found, Tensor | float) or torch.as_tensor(found).numel() != 1:
        print("Return one number. A sum over the entries is missing.")
    elif abs(float(found) - 24.0) < 1e-4:
        print("That is the dot product: it grows with the length of the vectors. Divide by both lengths.")
    elif abs(float(found) - 0.96) > 1e-4:
        print("Not yet: for (3, 4) and (4, 3) it should be 24 / (5 · 5).")
    elif abs(float(function(2 * a, b)) - 0.96) > 1e-4:  # type: ignore[misc]
        print("The result changes when one vector is made longer. Divide by both lengths.")
    else:
        print("Right: the direction counts, not the length.")


def check_saliency(function: Callable[[nn.Module, Tensor, int], Tensor] | None) -> None:
    """Print whether `function(model, x, target)` is the saliency (N, H, W), or which mistake it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
        x = torch.randn(2, 3, 8, 8)
    found = None if function is None else function(model, x.clone(), 1)
    signed = _gradient(lambda images: model(images)[:, 1], x)
    mistakes = {
        "The signs are still there: a pixel that pulls the score down matters, too.": signed.amax(1),
        "You averaged over the colours. The papers take the strongest one.": signed.abs().mean(1),
        "You added up the colours. The papers take the strongest one.": signed.abs().sum(1),
        "The colours are still there: one number a pixel, (N, H, W), is asked for.": signed.abs(),
        "This is the raw gradient: take its absolute value, and the strongest colour.": signed,
        "This is of class 0; the target is the last argument.": _saliency(
            lambda images: model(images)[:, 0], x
        ),
        "This is of the probability. Take the score before softmax: it is about this class alone.": _saliency(
            lambda images: model(images).softmax(1)[:, 1], x
        ),
    }
    if found is None:
        print("Not answered yet. Return one number a pixel, (N, H, W).")
    elif _alike(found, signed.abs().amax(1)):
        print("Right: the strongest absolute gradient over the colours.")
    else:
        seen = [text for text, wrong in mistakes.items() if _alike(found, wrong)]
        print(seen[0] if seen else f"Not yet. Expected shape (2, 8, 8), and {_shape(found)} came.")


def check_excitement(function: Callable[[Tensor, int], Tensor] | None) -> None:
    """Print whether `function(maps, channel)` is a channel's mean in each image, or which mistake it is."""
    maps = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4).square() / 1000
    found = None if function is None else function(maps, 1)
    mistakes = {
        "One number for the whole batch: keep one for each image, or they cannot be told apart.": maps[
            :, 1
        ].mean(),
        "The batch comes first: `maps[:, channel]` is the channel of every image.": maps[1].mean((1, 2)),
        "You averaged over all channels: pick one first.": maps.mean((1, 2, 3)),
        "This is the strongest place alone; the mean over all places is asked for.": maps[:, 1].amax((1, 2)),
        "The places are still there: average over height and width.": maps[:, 1],
    }
    if found is None:
        print("Not answered yet. Return one number an image: how strongly the channel responds on average.")
    elif _alike(found, maps[:, 1].mean((1, 2))):
        print("Right: the mean over height and width of one channel, for each image.")
    else:
        seen = [text for text, wrong in mistakes.items() if _alike(found, wrong)]
        print(seen[0] if seen else f"Not yet. Expected shape (2,), and {_shape(found)} came.")


def check_grad_cam(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether `function(maps, gradient)` is Grad-CAM's map (N, h, w), or which mistake it is.

    Both arguments are (N, C, h, w): what the last stage gives, and the gradient of the class score by it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        maps, gradient = torch.rand(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    found = None if function is None else function(maps.clone(), gradient.clone())
    weights = gradient.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
    mistakes = {
        "The ReLU is missing: keep what speaks for the class.": (weights * maps).sum(1),
        "Sum over the channels; a mean only changes the scale, but then two layers cannot be compared.": (
            (weights * maps).mean(1).relu()
        ),
        "You multiplied place by place. Grad-CAM first averages the gradient over the places.": (
            (gradient * maps).sum(1).relu()
        ),
        "ReLU comes after the sum: a channel that speaks against the class must count against it.": (
            (weights * maps).relu().sum(1)
        ),
        "The channels are still there: add the weighted maps up.": (weights * maps).relu(),
        "Each image has its own weights: average over the places alone, not over the batch.": (
            (gradient.mean((0, 2, 3), keepdim=True) * maps).sum(1).relu()
        ),
    }
    if found is None:
        print("Not answered yet. Return one map an image, (N, h, w).")
    elif _alike(found, (weights * maps).sum(1).relu()):
        print("Right: weights from the mean gradient, a weighted sum of maps, and what is positive of it.")
    else:
        seen = [text for text, wrong in mistakes.items() if _alike(found, wrong)]
        print(seen[0] if seen else f"Not yet. Expected shape (2, 4, 5), and {_shape(found)} came.")


def check_gram(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether `function(maps)` is the Gram matrix (N, C, C) of maps (N, C, h, w), mean over places."""
    maps = torch.arange(2 * 3 * 2 * 4, dtype=torch.float32).view(2, 3, 2, 4).sin()
    found = None if function is None else function(maps.clone())
    flat = maps.flatten(2)  # (N, C, places)
    whole = flat @ flat.mT / flat.shape[2]
    centred = flat - flat.mean(2, keepdim=True)
    mistakes = {
        "This is the sum over the places. Take the mean, so that a large picture has the same texture.": (
            flat @ flat.mT
        ),
        "This compares places with places. Channels with channels are asked for: (N, C, C).": (
            flat.mT @ flat / flat.shape[1]
        ),
        "You subtracted the means: that is the covariance. A Gram matrix keeps them.": (
            centred @ centred.mT / flat.shape[2]
        ),
        "One matrix for the whole batch: keep one for each image.": whole.mean(0),
        "You divided by the channels, too. The mean is over the places alone.": whole / flat.shape[1],
    }
    if found is None:
        print("Not answered yet. Return one matrix an image, (N, C, C).")
    elif _alike(found, whole):
        print("Right: which channels are strong together, wherever that is.")
    else:
        seen = [text for text, wrong in mistakes.items() if _alike(found, wrong)]
        print(seen[0] if seen else f"Not yet. Expected shape (2, 3, 3), and {_shape(found)} came.")


def compare_choice(guess: object, answer: object) -> None:
    """Print how a guess of a word, a name or True/False compares with what was found.

    `answer` is the right one, or a set of those that are right.
    """
    right = sorted(map(str, answer)) if isinstance(answer, set | frozenset) else [str(answer)]
    if guess is None:
        print("No guess written yet. Write one above and run again: predicting first is how this sticks.")
    elif str(guess) in right:
        print(f"You said {guess}, and so it is.")
    else:
        print(f"You said {guess}; it is {' or '.join(right)}. Read on: the explanation says why.")


def _gradient(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(score(x).sum(), x)[0]


def _saliency(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return _gradient(score, x).abs().amax(1)


def _alike(found: object, wanted: Tensor) -> bool:
    return (
        isinstance(found, Tensor) and found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-5)
    )


def _shape(found: object) -> object:
    return tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
