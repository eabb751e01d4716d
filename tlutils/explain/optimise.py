"""Images found by gradient steps: the loop that every synthesis shares.

Pictures live in [0, 1] while they are changed, and are normalised with the model's own mean and standard
deviation where the model reads them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from .. import models
from ..errors import LearnerError
from ..inference import device_of, dtype_of
from ..runtime import progress
from .hooks import compute_gradient

OnStep = Callable[[int, Tensor, Tensor], bool | None]


@dataclass(frozen=True)
class Synthesis:
    """Images that were found by gradient steps.

    Attributes:
        images: A tensor (N, C, H, W) in [0, 1].
        curve: The objective before each step (steps, N).
    """

    images: Tensor
    curve: Tensor


def _statistics(model: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
    info = models.info(model)
    return like.new_tensor(info.mean).view(-1, 1, 1), like.new_tensor(info.std).view(-1, 1, 1)


def normalize(model: nn.Module, images: Tensor) -> Tensor:
    """Return images in [0, 1], normalised by the model's own mean and standard deviation.

    Args:
        model: The model that will read them.
        images: A tensor (N, C, H, W) in [0, 1].

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> explain.normalize(nn.Conv2d(3, 4, 3), torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """
    mean, std = _statistics(model, images)
    return (images - mean) / std


def denormalize(model: nn.Module, x: Tensor) -> Tensor:
    """Return a preprocessed batch, denormalised to images in [0, 1]; values outside are cut off.

    Args:
        model: The model for which the batch was prepared.
        x: A preprocessed batch (N, C, H, W).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import explain
        >>> images, model = torch.rand(2, 3, 8, 8), nn.Conv2d(3, 4, 3)
        >>> torch.allclose(explain.denormalize(model, explain.normalize(model, images)), images, atol=1e-6)
        True
    """
    mean, std = _statistics(model, x)
    return (x * std + mean).clamp(0, 1)


def draw_noise(model: nn.Module, count: int, size: int | Sequence[int] | None) -> Tensor:
    """Return nearly grey images (count, C, H, W) in [0, 1]; `size` is a side, (H, W), or the model's own."""
    channels, height, width = models.info(model).input_size
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else tuple(size)
    if min(height, width) < 8:
        raise LearnerError(
            f"An image of {height}×{width} pixels was asked for. It needs at least 8 pixels a side."
        )
    start = 0.5 + 0.02 * torch.randn(count, channels, height, width)
    return start.clamp(0, 1).to(device_of(model), dtype_of(model))


# How red, green and blue vary together in photographs (a square root of their covariance, from the lucid
# library, measured on ImageNet). Steps that follow it are mostly light and dark, then blue to yellow,
# little red to green.
_COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64)


def precondition(gradient: Tensor) -> Tensor:
    """Return the gradient (N, C, H, W) in a metric of photographs: shapes come before grain.

    Each spatial frequency f is divided by f, and three channels are mixed by the covariance of natural
    colours. (Olah, Mordvintsev and Schubert 2017, "Feature visualization", on preconditioning.)
    """
    spectrum = torch.fft.rfft2(gradient.float()) / _frequencies(gradient)
    result = torch.fft.irfft2(spectrum, s=gradient.shape[2:]).to(gradient.dtype)
    return _mix_colours(result, _COLOURS @ _COLOURS.T)


def _frequencies(like: Tensor) -> Tensor:
    """Return the cycles per pixel (H, W // 2 + 1) of each coefficient of a real image's spectrum."""
    height, width = like.shape[2:]
    rows = torch.fft.fftfreq(height, device=like.device)[:, None]
    columns = torch.fft.rfftfreq(width, device=like.device)[None]
    return (rows.square() + columns.square()).sqrt().clamp(min=1 / max(height, width))


def _mix_colours(images: Tensor, colours: Tensor) -> Tensor:
    return torch.einsum("cd,ndhw->nchw", colours.to(images), images) if images.shape[1] == 3 else images


def smooth(images: Tensor, sigma: float) -> Tensor:
    """Return images smoothed by a Gaussian of `sigma` pixels."""
    radius = min(max(1, round(3 * sigma)), min(images.shape[2:]) - 1)
    return gaussian_blur(images, [2 * radius + 1] * 2, [sigma, sigma]) if sigma > 0 else images


def says_stop(on_step: OnStep | None, step: int, images: Tensor, values: Tensor) -> bool:
    """Return whether a callback ends the work: by False, also a tensor's or NumPy's; None goes on."""
    answer = None if on_step is None else on_step(step, images, values)
    return answer is not None and not answer


def ascend(
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    model: nn.Module,
    steps: int,
    lr: float,
    jitter: int = 0,
    blur: float = 0.0,
    blur_every: int = 10,
    l2: float = 0.0,
    on_step: OnStep | None = None,
    desc: str,
) -> Synthesis:
    """Return the images after `steps` ascents of `objective` (preprocessed batch -> (N,)) from `start` in
    [0, 1].

    A step moves an image by `lr` (root mean square, in [0, 1] units; it falls to a tenth) along the
    gradient that `precondition` gives, through a shift of up to `jitter` pixels. `l2` pulls towards mid-grey;
    every `blur_every` steps the image is blurred by `blur` pixels. `on_step(step, images, values)` sees
    each step, and ends the work by returning False.
    """
    check_steps(steps, lr)
    images, curve = start.clone(), []
    for step in progress(range(steps), desc=desc):
        shift = [int(torch.randint(-jitter, jitter + 1, ())) for _ in range(2)] if jitter else [0, 0]
        images.requires_grad_()
        values = objective(normalize(model, torch.roll(images, shift, (2, 3))))
        if step == 0:
            compute_gradient(values.sum(), images, retain_graph=True)  # the penalty has one in any case
        penalty = l2 * (images - 0.5).square().mean((1, 2, 3))
        gradient = precondition(torch.autograd.grad((values - penalty).sum(), images)[0])
        length = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
        with torch.no_grad():
            images = (images + lr * (1 - 0.9 * step / steps) * gradient / length).clamp(0, 1)
            if blur and (step + 1) % blur_every == 0 and step + 1 < steps:
                images = smooth(images, blur)
        curve.append(values.detach())
        if says_stop(on_step, step, images, curve[-1]):
            break
    return Synthesis(images.detach(), stack_curve(curve, start))


def descend(
    loss: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    model: nn.Module,
    steps: int,
    lr: float,
    tv: float = 0.0,
    on_step: OnStep | None = None,
    desc: str,
) -> Synthesis:
    """Return the images after `steps` of Adam on `loss` (preprocessed batch -> (N,)) from `start` in [0, 1].

    `lr` is Adam's, for the spectrum of the change: 0.01 is careful, 0.05 bold. `tv` weighs the total
    variation that is added to the loss, and not to its curve.
    """
    check_steps(steps, lr)
    # The change is held as a spectrum, scaled as in photographs, so that even steps draw shapes before grain.
    scale = start.shape[2] / _frequencies(start)
    change = torch.zeros(*start.shape[:2], *scale.shape, 2, device=start.device, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps), eta_min=lr / 20)

    def render() -> Tensor:
        moved = torch.fft.irfft2(torch.view_as_complex(change) * scale, s=start.shape[2:]).to(start.dtype)
        return (start + _mix_colours(moved, _COLOURS)).clamp(0, 1)

    curve: list[Tensor] = []
    for step in progress(range(steps), desc=desc):
        images = render()
        values = loss(normalize(model, images))
        if step == 0:
            compute_gradient(values.sum(), change, retain_graph=True)
        # Given by hand, because backward() would leave gradients on the model's parameters.
        change.grad = torch.autograd.grad((values + tv * total_variation(images)).sum(), change)[0]
        optimizer.step()
        schedule.step()
        curve.append(values.detach())
        if says_stop(on_step, step, render().detach(), curve[-1]):
            break
    return Synthesis(render().detach(), stack_curve(curve, start))


def check_steps(steps: int, lr: float) -> None:
    if steps < 0 or not lr > 0:
        raise LearnerError(f"steps={steps}, lr={lr}. Expected steps ≥ 0 and lr > 0.")


def stack_curve(curve: list[Tensor], start: Tensor) -> Tensor:
    return torch.stack(curve) if curve else start.new_zeros(0, len(start))


def total_variation(images: Tensor) -> Tensor:
    """Return the mean |difference| between neighbouring pixels (N,) of images (N, C, H, W)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).abs().mean((1, 2, 3))
    return down + (images[..., 1:] - images[..., :-1]).abs().mean((1, 2, 3))
