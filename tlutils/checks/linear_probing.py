"""Checks of the exercises in lesson 02."""

from collections.abc import Callable
from typing import Any

import numpy as np


def check_nearest(nearest: Callable[[np.ndarray, np.ndarray], Any] | None) -> None:
    """Print whether `nearest(query, bank)` is the row of `bank` (n, D) of the largest cosine to `query` (D,).

    Each row of the small bank is what one mistake would choose.
    """
    if nearest is None:
        print("Not written yet. Divide the dot product by both lengths, and take the largest.")
        return
    query = np.array([1.0, 0.0, 0.0])
    bank = np.array([[-1.0, 0.0, 0.0], [4.0, 4.0, 0.0], [0.8, 0.5, 0.0], [9.0, 1.0, 0.0]])
    answers = {
        0: "That is the *least* similar row: large cosine means alike.",
        1: "That row is neither close in direction nor near. Check along which axis you sum.",
        2: "That row is the nearest in distance. Cosine compares directions, so lengths must be divided out.",
    }
    try:
        answer = int(np.asarray(nearest(query, bank)))
    except (TypeError, ValueError) as error:
        print(f"Your function gave no row number ({error}). Return one integer, for example with np.argmax.")
        return
    if answer != 3:
        print(answers.get(answer, f"Row {answer} does not exist in a bank of {len(bank)} rows."))
    elif int(np.asarray(nearest(query, np.array([[10.0, 9.0, 0.0], [0.1, 0.0, 0.0]])))) != 1:
        print("A long row wins over one that points the same way: divide by the length of each row.")
    else:
        print("Right: the row that points the same way wins, however long it is.")


def check_scaled(mine: np.ndarray | None, train: np.ndarray, val: np.ndarray) -> None:
    """Print whether `mine` is `val` (m, D), standardised by the mean and deviation of `train`."""
    if mine is None:
        print("Not done yet. Subtract a mean and divide by a deviation: whose?")
        return

    def standardised(x: np.ndarray, like: np.ndarray) -> np.ndarray:
        deviation = like.std(axis=0)
        return (x - like.mean(axis=0)) / np.where(deviation > 0, deviation, 1)

    mine = np.asarray(mine, dtype=float)
    known = train.std(axis=0) > 0  # what never varies may be scaled in any way
    if mine.shape != val.shape:
        print(f"Yours has shape {mine.shape}; expected one row an image of val, {val.shape}.")
    elif np.allclose(mine[:, known], standardised(val, train)[:, known], rtol=1e-3, atol=1e-3):
        print("Right: val is measured with the ruler that was made on train.")
    elif np.allclose(mine[:, known], standardised(val, val)[:, known], rtol=1e-3, atol=1e-3):
        print(
            "You used val's own mean and deviation. A single new image has none: what would you do with it?"
        )
    elif np.allclose(
        mine[:, known], standardised(val, np.vstack([train, val]))[:, known], rtol=1e-3, atol=1e-3
    ):
        print(
            "Val took part in making the ruler. It must not: it stands for images that nobody has seen yet."
        )
    else:
        print("Not yet. For each feature: subtract train's mean, divide by train's deviation.")


def check_penalty(answer: float | None, table: Any) -> None:
    """Print whether `answer` is the penalty that a probe's `cv` table speaks for."""
    rows = table.sort_values("penalty").reset_index(drop=True)
    best, most = rows["log_loss"].idxmin(), rows["balanced_accuracy"].idxmax()
    if answer is None:
        print("Not answered yet. Which column says how well held-out images were predicted?")
    elif np.isclose(answer, rows["penalty"][best], rtol=0.2):
        print("Right: the lowest loss on images that were held out.")
    elif np.isclose(answer, rows["penalty"][most], rtol=0.2):
        print("The most images right, but by a hair: accuracy jumps by whole images, log loss does not.")
    elif np.isclose(answer, rows["penalty"].iloc[0], rtol=0.2):
        print("The weakest penalty fits the training images best, and that is not the question.")
    else:
        print("Not yet. Look for the lowest loss on held-out images, and read off its penalty.")
