"""Checks of the exercises in lesson 01c that match: inversion, texture, style transfer."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .answers import Mistakes, attempt, tell


def check_missed(function: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """Print whether `function(found, wanted)` is the share of `wanted` that is missed, for each image (N,).

    Both are what leaves a stage, (N, C, h, w).
    """
    draw = torch.Generator().manual_seed(0)
    wanted = torch.randn(2, 3, 4, 4, generator=draw) * torch.tensor([1.0, 3.0]).view(-1, 1, 1, 1)
    maps = wanted + torch.randn(2, 3, 4, 4, generator=draw)
    off, length, own = (v.square().sum((1, 2, 3)) for v in (maps - wanted, wanted, maps))
    right = off / length
    mistakes = {
        "This is the squared distance. Divide by the squared length of the wanted maps, as stages differ.": (
            off
        ),
        "This is the mean squared error. Divide by the mean square of what is wanted.": off / 48,
        "The squares are missing: the lengths are squared, above and below.": right.sqrt(),
        "You divided by what was found. Divide by what is *wanted*: that stays the same during the search.": (
            off / own
        ),
        "You divided by the length without its square.": off / length.sqrt(),
        "One number for the whole batch: keep one for each image.": right.mean(),
        "You added up all images first: keep one number for each.": off.sum() / length.sum(),
        "Upside down: what is missed goes above.": length / off,
        "This is what was kept. Missed is one minus it.": 1 - right,
        "You took absolute values. The formula has squares.": (
            (maps - wanted).abs().sum((1, 2, 3)) / wanted.abs().sum((1, 2, 3))
        ),
    }
    todo = "Return one number an image, (N,): 0 when all is found."
    found = attempt(function, maps.clone(), wanted.clone(), todo=todo)
    if found is not None:
        tell(found, right, mistakes, praise="zero when all is found, one for a picture that gives nothing.")


def check_gram(function: Callable[[Tensor], Tensor] | None) -> None:
    """Print whether `function(maps)` is the Gram matrix (N, C, C) of maps (N, C, h, w), mean over places."""
    maps = torch.arange(2 * 3 * 2 * 4, dtype=torch.float32).view(2, 3, 2, 4).sin()
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
    found = attempt(function, maps.clone(), todo="Return one matrix an image, (N, C, C).")
    if found is not None:
        tell(found, whole, mistakes, praise="which channels are strong together, wherever that is.")


def check_painted(
    function: Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor], float], Tensor]
    | None,
) -> None:
    """Print whether `function(found, photo, cloth, weight)` is style transfer's loss, for each image (N,).

    The first three are {"early": (N, C, h, w), "late": (N, D, k, l)}, what leaves two stages for the picture
    in the making, the photograph (content, at "late") and the cloth (style, at "early"), which is larger.
    """
    draw = torch.Generator().manual_seed(0)

    def maps(size: int) -> dict[str, Tensor]:
        early, late = (2, 3, 2 * size, 2 * size), (2, 3, size, size)
        return {"early": torch.rand(early, generator=draw), "late": torch.randn(late, generator=draw)}

    found, photo, cloth, weight = maps(2), maps(2), maps(3), 5.0

    def missed(values: Tensor, wanted: Tensor) -> Tensor:
        return (values - wanted).flatten(1).square().sum(1) / wanted.flatten(1).square().sum(1)

    def together(values: Tensor) -> Tensor:
        flat = values.flatten(2)
        return flat @ flat.mT

    def gram(values: Tensor) -> Tensor:
        return together(values) / values[0, 0].numel()

    def style(stage: str, example: Mapping[str, Tensor] = cloth) -> Tensor:
        return missed(gram(found[stage]), gram(example[stage]))

    content, texture = missed(found["late"], photo["late"]), style("early")
    right = content + weight * texture
    squares = (gram(found["early"]) - gram(cloth["early"])).square().sum((1, 2))
    mistakes: Mistakes = {
        "Your Gram matrices are sums over the places. The cloth has more of them: divide by their number.": (
            content + weight * missed(together(found["early"]), together(cloth["early"]))
        ),
        "You took the content at the stage of the style. Content is what leaves the late stage.": (
            missed(found["early"], photo["early"]) + weight * texture
        ),
        "You took the style at the stage of the content. Texture is in the early stage.": (
            content + weight * style("late")
        ),
        "The stages are swapped: content is what leaves the late one, style what leaves the early one.": (
            missed(found["early"], photo["early"]) + weight * style("late")
        ),
        "You took the style from the photograph. It is the cloth's.": (
            content + weight * style("early", photo)
        ),
        "You compared Gram matrices for the content, too. Content keeps its places: compare the maps.": (
            style("late", photo) + weight * texture
        ),
        "The weight belongs to the style.": weight * content + texture,
        "The weight is missing.": content + texture,
        "This is the content alone.": content,
        "This is the style alone.": (texture, weight * texture),
        "Divide each distance by the squared length of what is wanted, or one of them drowns the other.": (
            (found["late"] - photo["late"]).square().sum((1, 2, 3)) + weight * squares,
            content + weight * squares,
        ),
        "One number for the whole batch: keep one for each image.": (right.mean(), right.sum()),
    }
    todo = "Return one number an image, (N,): the content that is missed, plus the weight times the style."
    given = (dict(found), dict(photo), dict(cloth))
    answer = attempt(function, *given, weight, todo=todo)
    if answer is not None:
        tell(answer, right, mistakes, praise="the places of one picture, the texture of another.")
