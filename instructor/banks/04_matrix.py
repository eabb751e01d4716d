"""Answers to assignment 04 that learners give: wrong ones as (solved lines, lines instead, word of the hint)."""

WRONG = {
    "draw": [
        (
            "[rng.permutation(np.flatnonzero(labels == c))[:per_class] for c in np.unique(labels)]",
            "[rng.permutation(len(labels))[:3 * per_class]]",
            "draw within each",
        ),
        (
            "rng.permutation(np.flatnonzero(labels == c))[:per_class]",
            "rng.choice(np.flatnonzero(labels == c), per_class)",
            "twice",
        ),
        (
            "rng.permutation(np.flatnonzero(labels == c))[:per_class]",
            "rng.choice(np.flatnonzero(labels == c), per_class, replace=False)",
            "not among the 6",
        ),
        (
            "rng.permutation(np.flatnonzero(labels == c))[:per_class]",
            "np.flatnonzero(labels == c)[:per_class]",
            "first images of each class",
        ),
        ("np.random.default_rng(seed)", "np.random.default_rng()", "two different draws"),
        ("np.random.default_rng(seed)", "np.random.default_rng(0)", "Another seed gave the same"),
        ("np.random.default_rng(seed)", "np.random", "two different draws"),
        ("return np.concatenate(rows)", "return labels[np.concatenate(rows)]", "twice"),
        (
            "return np.concatenate(rows)",
            "return np.isin(np.arange(len(labels)), np.concatenate(rows))",
            "whole numbers",
        ),
        ("[:per_class] for", "[: per_class // 3] for", "are 9, and these are 3"),
        ("return np.concatenate(rows)", "return np.stack(rows)", "in one dimension"),
        ("np.random.default_rng(seed)", "np.random.default_rng([seed, per_class])", "not among the 6"),
    ],
    "paired": [
        ("stats.t.ppf(0.975, len(difference) - 1)", "1.96", "1.96 is for many"),
        (
            "difference.std(ddof=1) / np.sqrt(len(difference))",
            "np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / len(one))",
            "paired by their draw",
        ),
        ("difference.std(ddof=1)", "difference.std()", "divided by n"),
        (" / np.sqrt(len(difference))", "", "root of their number"),
        ("stats.t.ppf(0.975, len(difference) - 1) * error", "error", "one standard error"),
        ("0.975", "0.95", "take 0.975"),
        ("len(difference) - 1) * error", "len(difference)) * error", "degrees of freedom"),
        ("one - other", "other - one", "the other way round"),
        ("difference = one - other", "difference = np.sort(one) - np.sort(other)", "sorted"),
        ("mean - reach, mean + reach", "mean + reach, mean - reach", "low lies above"),
        ("return mean, mean - reach", "return mean, mean", "around the mean"),
        ("return mean, mean - reach, mean + reach", "return mean - reach, mean + reach", "three numbers"),
    ],
    "decide": [
        ('row["val"]\n', 'row["test"]\n', "test column"),
        (
            '"late" if low > 0 else "early" if high < 0 else "a tie"',
            '"late" if low + high > 0 else "early"',
            "larger mean wins",
        ),
        (
            '"late" if low > 0 else "early" if high < 0',
            '"early" if low > 0 else "late" if high < 0',
            "wrong way round",
        ),
        ("paired(late, early)", "paired(early, late)", "wrong way round"),
        (
            'runs[row["strategy"]][row["seed"]] = row["val"]',
            'runs[row["strategy"]][len(runs[row["strategy"]])] = row["val"]',
            "Pair the runs by their seed",
        ),
        ('if (row["data"], row["labels"]) == cell:', 'if row["labels"] == cell[1]:', "tie"),
        ("verdicts[cell] =", "verdicts[cell[0]] =", "are missing"),
        ('else "a tie"', 'else "tie"', "is not a verdict"),
        (
            "        verdicts[cell] =",
            "        verdicts = {}\n        verdicts[cell] =",
            "3 cells of the matrix",
        ),
        ("paired(late, early)", "(0, late.min() - early.min(), late.max() - early.max())", "tie"),
        ("paired(late, early)", "(0, np.sort(late - early)[-1], np.sort(late - early)[-1])", "larger mean"),
        ("return verdicts", "return list(verdicts.values())", "Return a dictionary"),
    ],
}

RIGHT = {
    "draw": [
        """
def draw(labels, per_class, seed):
    order = np.random.default_rng(seed).permutation(len(labels))
    taken, rows = {}, []
    for row in order:
        c = int(labels[row])
        if taken.get(c, 0) < per_class:
            taken[c] = taken.get(c, 0) + 1
            rows.append(int(row))
    return rows
""",
        """
def draw(labels, per_class, seed):
    state = np.random.RandomState(seed)
    rows = []
    for c in sorted(set(labels.tolist())):
        own = np.where(labels == c)[0]
        state.shuffle(own)
        rows += own[:per_class].tolist()
    return np.array(sorted(rows))
""",
    ],
    "paired": [
        """
def paired(one, other):
    d = np.array(one) - np.array(other)
    low, high = stats.t.interval(0.95, len(d) - 1, loc=d.mean(), scale=stats.sem(d))
    return d.mean(), low, high
""",
        """
def paired(one, other):
    interval = stats.ttest_rel(one, other).confidence_interval(0.95)
    return [np.mean(one) - np.mean(other), interval.low, interval.high]
""",
    ],
    "decide": [
        """
def decide(table):
    import pandas as pd
    wide = pd.DataFrame(table).pivot(index=["data", "labels", "seed"], columns="strategy", values="val")
    verdicts = {}
    for cell, runs in wide.groupby(level=["data", "labels"]):
        _, low, high = paired(runs["late"].to_numpy(), runs["early"].to_numpy())
        verdicts[cell] = "a tie" if low <= 0 <= high else ("late" if low > 0 else "early")
    return verdicts
""",
        """
def decide(table):
    rows = sorted(table, key=lambda row: row["seed"])
    cells = dict.fromkeys((row["data"], row["labels"]) for row in rows)
    for data, labels in cells:
        own = [row for row in rows if row["data"] == data and row["labels"] == labels]
        early = np.array([row["val"] for row in own if row["strategy"] == "early"])
        late = np.array([row["val"] for row in own if row["strategy"] == "late"])
        mean, low, high = paired(early, late)
        cells[data, labels] = "a tie" if low * high <= 0 else "early" if mean > 0 else "late"
    return cells
""",
    ],
}
