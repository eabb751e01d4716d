"""Checks of the exercises in lesson 05."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

Choose = Callable[[Mapping[str, np.ndarray]], str]

# Balanced accuracy by seed, the cheapest strategy first. Each mistake chooses another than it should in one.
CASES = {
    "tie": {"probe": [0.70, 0.72, 0.71], "partial": [0.71, 0.71, 0.72], "finetune": [0.72, 0.70, 0.74]},
    "pairs": {"probe": [0.60, 0.70, 0.80], "partial": [0.61, 0.72, 0.80], "finetune": [0.65, 0.76, 0.85]},
    "clear": {
        "probe": [0.70, 0.70, 0.71, 0.70, 0.71],
        "partial": [0.60, 0.84, 0.60, 0.61, 0.60],
        "finetune": [0.82, 0.81, 0.81, 0.81, 0.82],
    },
}


def check_cheapest(choose: Choose | None) -> None:
    """Print whether `choose(scores)` names the cheapest strategy that is not decidedly worse than the best.

    `scores` maps a strategy to its scores by seed (n,), the cheapest first. Decidedly worse: the whole 95 %
    interval of the paired differences from the strategy with the best mean lies below 0.
    """
    if choose is None:
        print("Not written yet. Take the best mean, then walk from the cheapest to the first that ties.")
        return
    said = {}
    for name, case in CASES.items():
        try:
            said[name] = choose({strategy: np.array(values) for strategy, values in case.items()})
        except Exception as error:  # the learner's own code: whatever it raises is said in words
            print(f"Your function stopped with {type(error).__name__}: {error}")
            return
        if said[name] not in case:
            print(f"Your function gave {said[name]!r}. Expected one of {', '.join(case)}.")
            return
    if said["clear"] == "probe":
        print("You keep the cheapest even where it is far behind in every seed.")
    elif said["clear"] == "partial":
        print("A single lucky seed has won. Compare means, and look at the spread.")
    elif said["tie"] != "probe":
        print("You chose by the mean alone. There it leads by less than the noise: the cheaper one ties.")
    elif said["pairs"] != "finetune":
        print(
            "Each seed has harder and easier images, and that swamps the difference. Subtract seed by seed "
            "first, then make the interval."
        )
    else:
        print("Right: pairs first, then the interval, and among ties the cheapest.")


def check_seeds(answer: int | None, differences: np.ndarray, margin: float) -> None:
    """Print whether `answer` is the least number of seeds that would decide, or which mistake it is.

    Mean and deviation of the `differences` (n,) are taken as the truth: the 95 % interval of so many has to
    lie on one side of `margin`.
    """
    mean, deviation = np.mean(differences), np.std(differences, ddof=1)
    student = lambda n: stats.t.ppf(0.975, n - 1)  # noqa: E731
    normal = lambda n: stats.norm.ppf(0.975)  # noqa: E731

    def least(gap: float, deviation: float, quantile: Callable[[int], float]) -> int:
        return next(n for n in range(2, 10_000) if quantile(n) * deviation / np.sqrt(n) < gap)

    gap = abs(mean - margin)
    right = least(gap, deviation, student)
    mistakes = {
        least(gap, deviation, normal): "With few seeds the factor is Student's, which is larger than 1.96.",
        least(abs(mean), deviation, student): "That decides against 0. The threshold is the margin.",
        least(gap, np.std(differences), student): "A deviation of a sample divides by n - 1 (ddof=1).",
        len(differences): "That is how many there are, and they left it undecided.",
    }
    if answer is None:
        print("Not answered yet. How does half the interval shrink with n? Mind that its factor does, too.")
    elif answer == right:
        print("Right: so many seeds, if mean and deviation stay as they are.")
    else:
        print(mistakes.get(answer, f"Not yet: {'more than' if answer > right else 'fewer than'} it takes."))
