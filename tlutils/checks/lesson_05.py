"""Checks of the exercises in lesson 05, the decision matrix."""

from collections.abc import Callable, Mapping

import numpy as np

from .common import judge_number

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
    """Print whether a function names the cheapest strategy that is not decidedly worse than the best.

    Decidedly worse: the whole 95 % interval of the paired differences from the strategy with the best mean
    lies below 0.

    Args:
        choose: The learner's `choose(scores)`, where `scores` maps a strategy to its scores by seed (n,), the
            cheapest first: the name of one.

    Example:
        >>> from tlutils.checks import lesson_05
        >>> lesson_05.check_cheapest(lambda scores: max(scores, key=lambda name: scores[name].mean()))
        You chose by the mean alone. There it leads by less than the noise: the cheaper one ties.
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

    Mean and standard deviation of the differences so far are taken as the truth: the 95 % interval of that
    many has to lie on one side of the margin.

    Args:
        answer: The learner's number of seeds; None where nothing was answered.
        differences: The differences so far, one per seed (n,).
        margin: The difference from which on a claim holds.

    Example:
        >>> import numpy as np
        >>> from tlutils.checks import lesson_05
        >>> lesson_05.check_seeds(3, np.array([0.04, 0.01, 0.07]), 0.01)
        That is how many there are, and they left it undecided.
    """
    from scipy import stats

    mean, std = np.mean(differences), np.std(differences, ddof=1)

    def least(gap: float, std: float, quantile: Callable[[int], float]) -> int:
        return next(n for n in range(2, 10_000) if quantile(n) * std / np.sqrt(n) < gap)

    def student(n: int) -> float:
        return stats.t.ppf(0.975, n - 1)

    def normal(n: int) -> float:
        return stats.norm.ppf(0.975)

    gap = abs(mean - margin)
    judge_number(
        answer,
        least(gap, std, student),
        {
            least(gap, std, normal): "With few seeds the factor is Student's, which is larger than 1.96.",
            least(abs(mean), std, student): "That decides against 0. The threshold is the margin.",
            least(
                gap, np.std(differences), student
            ): "The standard deviation of a sample divides by n - 1 (ddof=1).",
            len(differences): "That is how many there are, and they left it undecided.",
        },
        todo="How does half the interval shrink with n? Mind that its factor does, too.",
        praise="that many seeds, if mean and standard deviation stay as they are.",
        hint="Half the interval is factor × std / √n, with the factor of n: try one n after the other.",
    )
