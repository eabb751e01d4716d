"""Checks of the exercises in lesson 01b that judge a map."""

from collections.abc import Callable

import torch
from torch import Tensor

from .answers import Mistakes, attempt, tell


def check_revealed(function: Callable[[Tensor, Tensor, float], Tensor] | None) -> None:
    """Print whether `function(x, heat, share)` is x (C, H, W) where heat (H, W) is strongest, zero elsewhere.

    `share` is how many of the pixels are shown, between 0 and 1.
    """
    draw = torch.Generator().manual_seed(0)
    x, share = 1 + torch.rand(3, 4, 5, generator=draw), 0.25
    heat = torch.randperm(20, generator=draw).view(4, 5) / 20
    strongest, weakest, most = heat >= 0.75, heat < 0.25, heat >= 0.25
    mistakes: Mistakes = {
        "You hid the strongest pixels: that is deletion. Insertion shows them.": x * ~strongest,
        "These are the weakest pixels. The strongest come first.": x * weakest,
        "This shows the other share, one minus it: a share of 0.1 is the strongest tenth.": x * most,
        "You compared the heat with the share. Order the pixels: the share says how *many* are shown.": (
            x * (heat > share)
        ),
        "A pixel is shown or not: do not multiply by the heat.": (x * heat, x * heat * strongest),
        "This says which pixels are shown. Put the photograph's there.": (
            strongest,
            strongest.expand(3, 4, 5),
        ),
    }
    todo = "Return a picture, (C, H, W): the strongest pixels as they are, all others zero."
    found = attempt(function, x.clone(), heat.clone(), share, todo=todo)
    if found is not None:
        tell(found, x * strongest, mistakes, praise="the strongest pixels, as many as the share says.")


def check_deletion(
    function: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, int], Tensor | float] | None,
) -> None:
    """Print whether `function(probability, x, heat, steps)` is the area under the deletion curve.

    `probability` is that of the class for a picture (C, H, W). In each of the steps an equal share of the
    pixels of x vanishes, those first where heat (H, W) is strongest. Any rule of numbers will do.
    """
    draw = torch.Generator().manual_seed(0)
    x, heat, steps = torch.rand(3, 10, 10, generator=draw), torch.randperm(100, generator=draw) / 100, 50
    x = (2 * x - 1).index_fill_(2, torch.tensor(0), -1)  # normalised: black is -1, the mean colour 0
    rank, heat = (-heat).argsort().argsort().view(10, 10), heat.view(10, 10)
    evidence, asked = heat.square() * x.sign(), []

    def probability(picture: Tensor) -> Tensor:
        """Return one for x and zero for grey: the more of the strong pixels are seen, the larger."""
        asked.append(picture.clone())
        seen = (evidence * picture).sum((-3, -2, -1)) / (evidence * x).sum()
        return seen.clamp(0, 1).square()

    def curve(covered: Callable[[int], Tensor], fill: float = 0.0) -> Tensor:
        """Return the probability (steps + 1,) when the pixels `covered(how many)` are filled."""
        return torch.stack(
            [probability(torch.where(covered(2 * step), fill, x)) for step in range(steps + 1)]
        )

    def area(values: Tensor) -> Tensor:
        return torch.trapezoid(values, dx=1 / steps)

    falling = curve(lambda count: rank < count)
    backwards = area(curve(lambda count: rank >= 100 - count))  # insertion has this very area
    black = area(curve(lambda count: rank < count, -1.0))
    piece = area(curve(lambda count: (rank < count) & (rank >= count - 2)))
    right = area(falling)
    asked.clear()
    mine = x.clone()
    todo = "Return one number, the area under the curve: small where the map is good."
    found = attempt(function, probability, mine, heat.clone(), steps, todo=todo)
    if found is None:
        return
    if not torch.equal(mine, x):
        print("You painted into the photograph itself, and the next map would find it grey: clone it.")
        return
    grey_first = bool(asked) and not asked[0].any()
    mistakes: Mistakes = {
        "You began with grey and let the strongest pixels appear: that is insertion."
        if grey_first
        else "The weakest pixels went first. Sort in descending order: the strongest go first.": backwards,
        "You covered with black. In a normalised picture the mean colour is zero.": black,
        "This is one minus the area. In deletion the area itself should be small.": 1 - right,
        "You added up the probabilities. Divide by their number: the shares run from 0 to 1.": (
            falling.sum(), falling[1:].sum(), steps * right,
        ),
        "Each step hid its own pixels alone. Those of the steps before stay hidden.": piece,
        "This is the curve. Its area is one number: the mean of its heights.": (
            falling, falling[1:], falling[:-1],
        ),
    }  # fmt: skip
    tell(found, right, mistakes, praise="the earlier the class is lost, the smaller the area.", close=0.03)


def check_map_similarity(function: Callable[[Tensor, Tensor], Tensor | float] | None) -> None:
    """Print whether `function(before, after)` is the rank correlation of the absolute values of two maps."""
    draw = torch.Generator().manual_seed(0)
    before = torch.randn(6, 7, generator=draw)
    before, after = before.pow(3), (before + torch.randn(6, 7, generator=draw)).pow(5)

    def correlation(a: Tensor, b: Tensor) -> Tensor:
        return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1]

    def ranks(values: Tensor) -> Tensor:
        return values.flatten().argsort().argsort()

    mistakes = {
        "This compares the values: a few strong pixels decide. Compare the ranks.": (
            correlation(before.abs(), after.abs())
        ),
        "This compares the values, with their signs. Compare the ranks of the absolute values.": (
            correlation(before, after)
        ),
        "The signs took part: a pixel that speaks strongly *against* the class is important, too.": (
            correlation(ranks(before), ranks(after))
        ),
        "One argsort says which pixel comes first; the rank of each pixel is the argsort of that.": (
            correlation(before.abs().flatten().argsort(), after.abs().flatten().argsort())
        ),
        "One minus it would be a distance. Alike should be near one.": (
            1 - correlation(ranks(before.abs()), ranks(after.abs()))
        ),
    }
    right = correlation(ranks(before.abs()), ranks(after.abs()))
    todo = "Return one number for two maps: 1 when they order the pixels alike."
    found = attempt(function, before.clone(), after.clone(), todo=todo)
    if found is not None:
        tell(found, right, mistakes, praise="the order counts, not the scale.", close=1e-3)


def check_hit(function: Callable[[Tensor, tuple[int, int, int, int]], bool] | None) -> None:
    """Print whether `function(heat, box)` says that the strongest pixel of heat (H, W) lies in its box.

    `box` is (top, left, bottom, right), bottom and right excluded.
    """
    # The peak (row, column): inside, outside, in the first corner, on both excluded edges; then other boxes,
    # where rows and columns differ, and where most of the heat lies elsewhere than the peak.
    box = (1, 3, 4, 6)
    games = [((2, 4), box), ((5, 8), box), ((1, 3), box), ((4, 4), box), ((2, 6), box)]
    games += [((1, 7), (0, 5, 3, 9)), ((5, 1), (0, 0, 5, 9)), ((3, 1), (0, 3, 2, 9))]
    heats = [
        torch.full((6, 9), 0.1).index_put_(tuple(map(torch.tensor, peak)), torch.tensor(1.0))
        for peak, _ in games
    ]

    def judged(rule: Callable[..., bool]) -> Tensor:
        return torch.tensor([rule(*peak, *box) for peak, box in games])

    right = judged(lambda y, x, top, left, bottom, right: top <= y < bottom and left <= x < right)
    mistakes = {
        "Rows and columns are swapped somewhere: a box is (top, left, bottom, right).": judged(
            lambda y, x, top, left, bottom, right: top <= x < bottom and left <= y < right
        ),
        "Bottom and right are the first row and column *outside* the box.": judged(
            lambda y, x, top, left, bottom, right: top <= y <= bottom and left <= x <= right
        ),
        "Top and left belong to the box.": judged(
            lambda y, x, top, left, bottom, right: top < y < bottom and left < x < right
        ),
        "A place number divided by the *width* gives the row; you divided by the height.": judged(
            lambda y, x, top, left, bottom, right: (
                top <= (9 * y + x) // 6 < bottom and left <= (9 * y + x) % 6 < right
            )
        ),
        "You asked where most of the heat lies. The pointing game asks for the strongest pixel alone.": (
            torch.tensor(
                [
                    bool(heat[top:bottom, left:right].sum() > heat.sum() / 2)
                    for heat, (_, (top, left, bottom, right)) in zip(heats, games, strict=True)
                ]
            )
        ),
        "These are the misses.": ~right,
    }

    def answers() -> Tensor | None:
        given = [function(heat.clone(), box) for heat, (_, box) in zip(heats, games, strict=True)]  # type: ignore[misc]
        return None if given[0] is None else torch.tensor([bool(answer) for answer in given])

    found = attempt(function and answers, todo="Return True or False: is the strongest pixel in the box?")
    if found is not None:
        tell(found, right, mistakes, praise="the strongest pixel alone decides.")
