"""The weights of convolutions: filters as images, and how well Gabor functions fit them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import LearnerError, unknown
from ..inference import unwrap


def filters(model: nn.Module, module: str | None = None) -> Tensor:
    """Return a copy of the weights (K, C, h, w) of a model's first convolution, or of another.

    C is 3 (colour) in the first layer, and the number of incoming channels (per group) deeper in.

    Args:
        model: Any model with a 2-D convolution.
        module: The name of a module, in which the first convolution is taken.

    Raises:
        LearnerError: If there is no such module, or no 2-D convolution in it.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> explain.filters(nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU())).shape
        torch.Size([8, 3, 5, 5])
    """
    modules = dict(unwrap(model).named_modules())
    if module is not None and module not in modules:
        raise unknown("module", module, modules)
    inside = [m for m in modules[module or ""].modules() if isinstance(m, nn.Conv2d)]
    if not inside:
        where = "this model" if module is None else repr(module)
        raise LearnerError(f"There is no 2-D convolution in {where}, so there are no filters to show.")
    return inside[0].weight.detach().clone()


def filters_to_images(weights: Tensor, *, colour: bool | None = None) -> Tensor:
    """Return filters as images in [0, 1], 0 at mid-grey: (K, 3, h, w) in colour, (K, C, 1, h, w) in grey.

    Each filter has its own scale: its largest |weight| becomes 0 or 1.

    Args:
        weights: Filters (K, C, h, w).
        colour: Whether the channels are red, green and blue, as three of them are unless said otherwise;
            other filters give one grey picture per incoming channel.

    Raises:
        LearnerError: If the filters have another shape, or are to be in colour and C is not 3.

    Example:
        >>> import torch
        >>> from tlutils import explain
        >>> explain.filters_to_images(torch.randn(8, 3, 5, 5)).shape
        torch.Size([8, 3, 5, 5])
        >>> explain.filters_to_images(torch.randn(8, 4, 5, 5)).shape
        torch.Size([8, 4, 1, 5, 5])
    """
    colour = weights.shape[1] == 3 if colour is None else colour
    if weights.ndim != 4 or (colour and weights.shape[1] != 3):
        raise LearnerError(
            f"Filters have shape {tuple(weights.shape)}. Expected (K, C, h, w), with C = 3 for colour."
        )
    largest = weights.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    images = 0.5 + weights / (2 * largest)
    return images if colour else images[:, :, None]


@dataclass(frozen=True)
class GaborFit:
    """The best fit of a Gabor function or a blob to each filter.

    Attributes:
        share: The part of each filter's energy that is explained (K,), in [0, 1].
        fit: The fitted filters (K, C, h, w).
        blob: Where the best fit is a colour blob rather than a Gabor (K,).
    """

    share: Tensor
    fit: Tensor
    blob: Tensor


def _atoms(size: tuple[int, int], p: dict[str, Tensor]) -> Tensor:
    """Return unit-norm Gabors (..., h·w) with parameters p, each (...,); frequency 0 is a Gaussian blob."""
    y, x = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in size)
    y, x = (a.flatten() for a in torch.meshgrid(y, x, indexing="ij"))
    x, y = x - p["x"][..., None], y - p["y"][..., None]
    along = x * p["angle"].cos()[..., None] + y * p["angle"].sin()[..., None]
    wave = torch.cos(2 * torch.pi * p["frequency"][..., None] * along + p["phase"][..., None])
    atom = torch.exp(-(x**2 + y**2) / (2 * p["sigma"][..., None] ** 2)) * wave
    return atom / atom.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def _explained(filters: Tensor, atoms: Tensor) -> Tensor:
    """Return the share of energy (K, ...) of unit filters (K, C, h·w) that each atom explains at best."""
    return (filters @ atoms.flatten(0, -2).T).square().sum(1).view(len(filters), *atoms.shape[:-1])


def _grid(size: tuple[int, int]) -> dict[str, Tensor]:
    """Return a coarse grid of parameters (A,) as starts: Gabors of eight directions, and blobs."""
    side = max(size)
    shift = (
        torch.linspace(-side / 4, side / 4, 3, dtype=torch.float64)
        if side > 3
        else torch.zeros(1, dtype=torch.float64)
    )
    axes = {
        "x": shift,
        "y": shift,
        "sigma": side * torch.tensor([0.15, 0.25, 0.4, 0.8], dtype=torch.float64),
        "angle": torch.arange(8, dtype=torch.float64) * torch.pi / 8,
        "frequency": torch.tensor([0.0, 0.5, 0.8, 1.2, 1.8, 2.5], dtype=torch.float64) / side,
        "phase": torch.arange(4, dtype=torch.float64) * torch.pi / 4,
    }
    axes["frequency"] = axes["frequency"][axes["frequency"] <= 0.5]
    values = torch.cartesian_prod(*axes.values())
    # A blob has no direction and no phase: keep one of each.
    keep = (values[:, 4] > 0) | ((values[:, 3] == 0) & (values[:, 5] == 0))
    return dict(zip(axes, values[keep].T, strict=True))


def fit_gabors(weights: Tensor, *, starts: int = 3, steps: int = 60) -> GaborFit:
    """Return the best fit of one Gabor function or blob in one colour to each filter, and what it explains.

    A Gabor is a round Gaussian times a cosine, at any place, size, direction, frequency (at most half a cycle
    per pixel) and phase; its colour is the best one in closed form. The best blob and the best Gabors of a
    coarse grid are refined together by gradient ascent. A random filter of few pixels scores well too, so
    compare with random weights. Gabor filters: Daugman 1985; on learned ones: Yosinski et al. 2014, section
    1.

    Args:
        weights: Filters (K, C, h, w).
        starts: How many Gabors of the grid are refined.
        steps: How many steps of gradient ascent they get.

    Returns:
        The `share` (K,) of each filter's energy that is explained, in [0, 1] (0 for a filter of zeros), the
        `fit` (K, C, h, w), and where it is a `blob` (K,).

    Raises:
        LearnerError: If the filters have another shape, are 1×1, or are not finite.

    Example:
        >>> import torch
        >>> from tlutils import explain
        >>> y, x = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
        >>> stripes = torch.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 8) * torch.cos(x - 3)
        >>> bool(explain.fit_gabors(stripes[None, None]).share > 0.99)
        True
    """
    if weights.ndim != 4 or 0 in weights.shape:
        raise LearnerError(f"Filters have shape {tuple(weights.shape)}. Expected (K, C, h, w).")
    if not weights.isfinite().all():
        raise LearnerError("Filters hold NaN or infinity; look at the weights that were loaded.")
    size = (weights.shape[2], weights.shape[3])
    if max(size) < 2:
        raise LearnerError("These are 1×1 filters: they mix channels and have no shape to be Gabor-like in.")
    flat = weights.detach().cpu().double().flatten(2)
    energy = flat.square().sum((1, 2), keepdim=True)
    filters = flat / energy.clamp(min=1e-30).sqrt()
    grid = _grid(size)
    explained = _explained(filters, _atoms(size, grid))
    round_ = grid["frequency"] == 0
    best = torch.cat(  # (K, S): the best blob, and the best Gabors
        [
            explained.where(round_, -1.0).topk(1, dim=1).indices,
            explained.where(~round_, -1.0).topk(starts, dim=1).indices,
        ],
        dim=1,
    )
    start = {name: values[best] for name, values in grid.items()}
    blob = start["frequency"] == 0
    free = torch.stack(
        [start["x"], start["y"], start["sigma"].log(), start["angle"], start["frequency"], start["phase"]]
    ).requires_grad_()
    scale = torch.tensor([1.0, 1.0, 0.3, 0.3, 0.3 / max(size), 0.5], dtype=torch.float64).view(-1, 1, 1)
    limit = max(size) / 2

    def parameters() -> dict[str, Tensor]:
        x, y, sigma, angle, frequency, phase = free
        return {
            "x": x.clamp(-limit, limit),
            "y": y.clamp(-limit, limit),
            "sigma": sigma.exp().clamp(0.3, 2 * max(size)),
            "angle": angle,
            "frequency": torch.where(blob, 0.0, frequency.clamp(0, 0.5)),
            "phase": torch.where(blob, 0.0, phase),
        }

    def share(atoms: Tensor) -> Tensor:
        return torch.einsum("kcp,ksp->kcs", filters, atoms).square().sum(1)  # (K, S)

    record = share(_atoms(size, parameters())).detach()
    kept = _atoms(size, parameters()).detach()
    with torch.inference_mode(False), torch.enable_grad():
        for step in range(steps):
            gradient = torch.autograd.grad(share(_atoms(size, parameters())).sum(), free)[0]
            with torch.no_grad():
                rate = 0.3 * (1 - step / steps)
                free += (
                    rate
                    * scale
                    * gradient
                    * scale
                    / (gradient * scale).norm(dim=0, keepdim=True).clamp(min=1e-9)
                )
                atoms = _atoms(size, parameters())
                now = share(atoms)
                better = now > record
                record = torch.where(better, now, record)
                kept = torch.where(better[..., None], atoms, kept)
    row = torch.arange(len(filters))
    # Occam: a blob has three parameters fewer, so it wins a near tie.
    blobs = record[:, 0] >= record[:, 1:].amax(1) - 0.01
    top = torch.where(blobs, 0, 1 + record[:, 1:].argmax(1))
    atom = kept[row, top]  # (K, h·w)
    colour = torch.einsum("kcp,kp->kc", flat, atom)
    fit = (colour[..., None] * atom[:, None]).view_as(weights)
    alive = energy.flatten() > 0
    return GaborFit(torch.where(alive, record[row, top], 0.0), fit.to(weights.dtype), blobs & alive)
