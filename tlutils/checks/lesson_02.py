"""Checks of the exercises in lesson 02, linear probing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .common import judge_number


def check_nearest_neighbour(nearest: Callable[[np.ndarray, np.ndarray], Any] | None) -> None:
    """Print whether a function finds the row that points most nearly the same way, or which mistake it is.

    Each row of the small bank that it is tried on is what one mistake would choose.

    Args:
        nearest: The learner's `nearest(query, bank)` for a query (D,) and a bank (n, D): the index of the row
            with the largest cosine similarity.

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import lesson_02
        >>> def nearest(query, bank):
        ...     return np.argmin(np.linalg.norm(bank - query, axis=1))
        >>> lesson_02.check_nearest_neighbour(nearest)
        That row is the nearest in distance. Cosine compares directions, so lengths must be divided out.
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


def check_scaling(mine: np.ndarray | None, train: np.ndarray, val: np.ndarray) -> None:
    """Print whether validation features are standardised by the statistics of the training features.

    Args:
        mine: The learner's result (m, D); None where nothing was done.
        train: The training features (n, D).
        val: The validation features (m, D) before scaling.

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import lesson_02
        >>> train, val = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])
        >>> lesson_02.check_scaling((val - val.mean(0)) / val.std(0), train, val)
        You used val's own mean and standard deviation. A single new image has none: what then?
    """
    if mine is None:
        print("Not done yet. Subtract a mean and divide by a standard deviation: whose?")
        return

    def standardised(x: np.ndarray, like: np.ndarray) -> np.ndarray:
        std = like.std(axis=0)
        return (x - like.mean(axis=0)) / np.where(std > 0, std, 1)

    mine = np.asarray(mine, dtype=float)
    known = train.std(axis=0) > 0  # what never varies may be scaled in any way
    if mine.shape != val.shape:
        print(f"Yours has shape {mine.shape}; expected one row per image of val, {val.shape}.")
    elif np.allclose(mine[:, known], standardised(val, train)[:, known], rtol=1e-3, atol=1e-3):
        print("Right: val is measured with the ruler that was made on train.")
    elif np.allclose(mine[:, known], standardised(val, val)[:, known], rtol=1e-3, atol=1e-3):
        print("You used val's own mean and standard deviation. A single new image has none: what then?")
    elif np.allclose(
        mine[:, known], standardised(val, np.vstack([train, val]))[:, known], rtol=1e-3, atol=1e-3
    ):
        print(
            "Val took part in making the ruler. It must not: it stands for images that nobody has seen yet."
        )
    else:
        print("Not yet. For each feature: subtract train's mean, divide by train's standard deviation.")


def check_penalty(answer: float | None, table: pd.DataFrame) -> None:
    """Print whether `answer` is the penalty that cross-validation speaks for, or which mistake it is.

    Args:
        answer: The learner's penalty, right within a fifth; None where nothing was answered.
        table: A probe's `cv`, with the columns penalty, log_loss and balanced_accuracy.

    Example:
        >>> import pandas as pd
        >>> from tlutils.checks import lesson_02
        >>> columns = ["penalty", "log_loss", "balanced_accuracy"]
        >>> cv = pd.DataFrame([(0.1, 0.6, 0.7), (1.0, 0.4, 0.7), (10.0, 0.5, 0.8)], columns=columns)
        >>> lesson_02.check_penalty(10.0, cv)
        The most images right, but by a hair: accuracy jumps by whole images, log loss does not.
    """
    rows = table.sort_values("penalty").reset_index(drop=True)
    best, most = rows["log_loss"].idxmin(), rows["balanced_accuracy"].idxmax()
    mistakes = {
        rows["penalty"][0]: "The weakest penalty fits the training images best, which is not the question.",
        rows["penalty"][most]: (
            "The most images right, but by a hair: accuracy jumps by whole images, log loss does not."
        ),
    }
    judge_number(
        answer,
        rows["penalty"][best],
        mistakes,
        todo="Which column says how well held-out images were predicted?",
        praise="the lowest loss on images that were held out.",
        hint="Look for the lowest loss on held-out images, and read off its penalty.",
        rtol=0.2,
    )
