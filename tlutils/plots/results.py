"""Pictures of results: strategies with intervals, learning curves, confusion, right and wrong images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .style import COLOURS, NAMES, Picture, figure, show_image


def strategies(
    results: Mapping[str, tuple[float, float, float]], *, title: str, xlabel: str, alt: str
) -> Picture:
    """Return one row a strategy: its value as a dot and its interval as a line, the best at the top.

    `results` maps a strategy ("majority", "random", "probe", "finetune", …) to (value, low, high).
    """
    rows = sorted(results, key=lambda name: results[name][0])
    picture, axes = figure(7.5, 0.6 + 0.42 * len(rows), alt=alt)
    ax = axes[0, 0]
    for row, name in enumerate(rows):
        value, low, high = results[name]
        colour = COLOURS.get(name, COLOURS["ink"])
        ax.plot([low, high], [row, row], color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt")
        ax.plot(value, row, "o", color=colour, markersize=8)
        ax.text(high + 0.01, row, f"{value:.2f}", va="center", color=colour, fontweight="bold")
    ax.set_yticks(range(len(rows)), [NAMES.get(name, name) for name in rows])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel(xlabel)
    ax.set_xmargin(0.12)
    ax.grid(axis="x", color="#EEEEEE")
    ax.set_axisbelow(True)
    # The title belongs to the whole picture, so that long row names do not push it to the right.
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def curves(runs: Mapping[str, Mapping[str, Sequence[float]]], *, title: str, alt: str) -> Picture:
    """Return learning curves: one panel a run, with its "train" and "val" values by epoch.

    `runs` maps a strategy to {"train": values, "val": values}; the value axis is shared.
    """
    picture, axes = figure(7.5, 2.6, alt=alt, cols=len(runs), sharey=True)
    for ax, (name, run) in zip(axes[0], runs.items(), strict=True):
        colour = COLOURS.get(name, COLOURS["ink"])
        for split, values in run.items():
            epochs = np.arange(1, len(values) + 1)
            ax.plot(epochs, values, color=colour, linestyle="--" if split == "train" else "-", label=split)
            ax.text(epochs[-1], values[-1], f" {split}", color=colour, va="center", fontsize=9)
        ax.set_title(NAMES.get(name, name), fontweight="normal", fontsize=10, color=colour)
        ax.set_xlabel("epoch")
        ax.set_xmargin(0.18)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("accuracy")
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def confusion(matrix: Any, classes: Sequence[str], *, title: str, alt: str) -> Picture:
    """Return the confusion matrix (true rows, predicted columns): counts, shaded by share of the row."""
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = 1.6 + 0.62 * len(classes)
    picture, axes = figure(min(size + 1.4, 7.5), min(size, 6.5), alt=alt)
    ax = axes[0, 0]
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        dark = share[row, column] > 0.5
        ax.text(column, row, f"{count}", ha="center", va="center", color="white" if dark else COLOURS["ink"])
    ax.set_xticks(range(len(classes)), classes, rotation=30 if len(classes) > 3 else 0)
    ax.set_yticks(range(len(classes)), classes)
    ax.set(xlabel="predicted", ylabel="true")
    ax.tick_params(length=0)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def gallery(
    images: Sequence[Any], captions: Sequence[str], *, title: str, alt: str, columns: int = 6
) -> Picture:
    """Return images in rows of `columns`, each with its caption above."""
    rows = -(-len(images) // columns)
    picture, axes = figure(7.5, 1.55 * rows + 0.3, alt=alt, rows=rows, cols=columns)
    for ax in axes.flat[len(images) :]:
        ax.axis("off")
    for ax, image, caption in zip(axes.flat, images, captions, strict=False):
        show_image(ax, image, caption)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture


def right_and_wrong(
    images: Sequence[Any],
    truth: Sequence[int],
    proba: Any,
    classes: Sequence[str],
    *,
    title: str,
    alt: str,
    columns: int = 6,
) -> Picture:
    """Return a row of the surest right predictions above a row of the surest wrong ones.

    `images` are PIL images, `truth` (n,) class indices, `proba` (n, C) probabilities, all in one order.
    """
    labels, proba = np.asarray(truth), np.asarray(proba)
    guess, surest = proba.argmax(1), np.argsort(-proba.max(1), kind="stable")
    picture, axes = figure(7.5, 3.9, alt=alt, rows=2, cols=columns)
    for row, (name, hit) in enumerate([("right", True), ("wrong", False)]):
        chosen = [i for i in surest if (guess[i] == labels[i]) == hit][:columns]
        for ax in axes[row, len(chosen) :]:
            ax.axis("off")
        for ax, i in zip(axes[row], chosen, strict=False):
            second = f"{proba[i].max():.0%} sure" if hit else f"is {classes[labels[i]]}"
            says = f"says {classes[guess[i]]}\n{second}"
            show_image(ax, images[i], says)
            ax.title.set_color(COLOURS["probe"] if hit else COLOURS["finetune"])
        axes[row, 0].set_ylabel(f"surest {name}", fontsize=9)
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return picture
