"""Is the probe's own solver ahead of scikit-learn's? Both to the same optimum, in turns, in processor time.

    python benchmarks/probe.py                                 # the small cells, minutes
    python benchmarks/probe.py --rows 1000 10000 50000         # hours
    python benchmarks/probe.py --real                          # EfficientNet-Lite0's features of 2,000 digits

Two tasks for each number of rows and classes: "path", the penalties that cross-validation compares,
strongest first, each started from the optimum before, at the tolerance of cross-validation; and "fit", one
weak penalty to the final tolerance. The objective (`tlutils.probe.linear`) is computed by one function for
all: each solver of scikit-learn gets the loosest tolerance whose value lies above ours by no more than a
share of `ENOUGH`, at any penalty. Ours runs before and after each, and the ratio is taken within the three.
Seconds are those of the processor (user + system, one thread): other work on the machine falls on none of
them.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from tlutils import data, features, models
from tlutils.probe import PENALTIES
from tlutils.probe.linear import FINAL_TOLERANCE, TOLERANCE, Linear, fit_logistic, fit_scale
from tlutils.probe.linear import _principal as principal_axes

WIDTH = 1280  # of the features, as EfficientNet-Lite0's
TASKS = {"path": (PENALTIES, TOLERANCE), "fit": ((0.01,), FINAL_TOLERANCE)}
LADDER = [10.0**-k for k in range(3, 11)]  # tolerances that scikit-learn's solvers are given, loosest first
ENOUGH = {"path": 1e-5, "fit": 1e-9}
Solver = Callable[[Sequence[float], float], list[Linear]]


def draw(rows: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features with the spectrum of EfficientNet-Lite0's pooled features of digits, and labels."""
    rng = np.random.default_rng(seed)
    i = np.arange(1, WIDTH + 1)
    deviations = np.sqrt(113 / i * np.exp(-((i / 650) ** 2.5)))
    turn = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    y = rng.permutation(np.arange(rows) % classes)
    means = 0.4 * rng.normal(size=(classes, WIDTH))
    return ((rng.normal(size=(rows, WIDTH)) + means[y]) * deviations) @ turn + 1, y


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return EfficientNet-Lite0's pooled features of 2,000 handwritten digits, (2000, 1280), and labels."""
    split = data.load("mnist-5k").train.subsample(200)
    model = models.load(models.DEFAULT, input_size=48)
    return np.asarray(features.extract(model, split, at=["pool"])["pool"], dtype=float), np.array(
        split.labels
    )


def objective(found: Linear, x: np.ndarray, y: np.ndarray, penalty: float) -> float:
    """Return the mean cross-entropy plus penalty / 2 times the squared weights of standardised features."""
    factor = fit_scale(x).factor
    weight = found.weight / np.where(factor > 0, factor, 1)[:, None]
    logs = log_softmax(x @ found.weight + found.bias, axis=1)
    return float(-logs[np.arange(len(y)), y].mean() + penalty / 2 * (weight**2).sum())


def ours(x: np.ndarray, y: np.ndarray) -> Solver:
    count = y.max() + 1
    return lambda penalties, tolerance: list(
        fit_logistic(x, y, count, penalties, class_weights=None, tolerance=tolerance)
    )


def theirs(x: np.ndarray, y: np.ndarray, solver: str, *, turned: bool = False) -> Solver:
    """Return scikit-learn's solver on standardised features, `turned` to their principal axes or not."""

    def solve(penalties: Sequence[float], tolerance: float) -> list[Linear]:
        scale = fit_scale(x)
        z, axes = principal_axes(scale(x)) if turned else (scale(x), None)
        two = y.max() == 1  # one vector of weights then stands for two columns of half its length
        model = LogisticRegression(solver=solver, tol=tolerance, max_iter=100_000, warm_start=True)
        found = []
        for penalty in penalties:
            model.set_params(C=(2 if two else 1) / (penalty * len(y))).fit(z, y)
            weight, bias = model.coef_.T, model.intercept_
            if two:
                weight, bias = weight * [-0.5, 0.5], bias * [-0.5, 0.5]
            raw = (weight if axes is None else axes @ weight) * scale.factor[:, None]
            found.append(Linear(raw, bias - scale.mean @ raw))
        return found

    return solve


def measure(solve: Solver, penalties: Sequence[float], tolerance: float) -> tuple[float, list[Linear]]:
    """Return the processor's seconds, and what was found."""
    start = time.process_time()
    found = solve(penalties, tolerance)
    return time.process_time() - start, found


def compare(
    x: np.ndarray, y: np.ndarray, task: str, solvers: dict[str, Solver], penalties: Sequence[float]
) -> Iterator[dict]:
    """Yield a row for each solver: seconds, how many times ours that is, its tolerance, excess over ours."""
    tolerance, mine = TASKS[task][1], ours(x, y)

    def values(found: list[Linear]) -> np.ndarray:
        return np.array([objective(f, x, y, p) for f, p in zip(found, penalties, strict=True)])

    before, found = measure(mine, penalties, tolerance)
    own = values(found)
    yield {"solver": "ours", "seconds": before, "ratio": 1.0, "tolerance": tolerance, "excess": 0.0}
    for name, solve in solvers.items():
        for loose in LADDER:
            taken, found = measure(solve, penalties, loose)
            excess = float((values(found) / own - 1).max())
            if excess <= ENOUGH[task]:
                break
        after, _ = measure(mine, penalties, tolerance)
        ratio = taken / ((before + after) / 2)
        yield {"solver": name, "seconds": taken, "ratio": ratio, "tolerance": loose, "excess": excess}
        before = after


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1000])
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 100])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--penalties", type=float, nargs="+", help="another path, such as a shorter one")
    parser.add_argument("--solvers", nargs="+", default=["lbfgs", "lbfgs turned", "newton-cg"])
    parser.add_argument("--real", action="store_true", help="real features in place of drawn ones")
    options = parser.parse_args()
    cells = [digits()] if options.real else (draw(n, c) for n in options.rows for c in options.classes)
    for x, y in cells:
        solvers = {n: theirs(x, y, n.split()[0], turned="turned" in n) for n in options.solvers}
        if y.max() == 1:  # with more classes its matrix of (features * classes)² numbers does not fit
            solvers["newton-cholesky"] = theirs(x, y, "newton-cholesky")
        for task in options.tasks:
            penalties = TASKS[task][0] if task == "fit" or not options.penalties else options.penalties
            with threadpool_limits(1):
                for row in compare(x, y, task, solvers, penalties):
                    cell = {"rows": len(x), "classes": y.max() + 1, "task": f"{task} of {len(penalties)}"}
                    shown = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in (cell | row).items()}
                    print(*(f"{k}={v}" for k, v in shown.items()), flush=True)


if __name__ == "__main__":
    main()
