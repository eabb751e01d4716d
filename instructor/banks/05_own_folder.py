"""Answers to assignment 05 that learners give: wrong ones as (solved lines, lines instead, word of the hint)."""

WRONG = {
    "split": [
        (
            "    return np.array([sides[name] for name in groups])",
            '    return np.random.default_rng(seed).permutation(np.repeat(["train", "val", "test"], len(groups)))[: len(groups)]',
            "both sides",
        ),
        (
            "permutation(np.unique(groups))",
            "permutation(np.arange(len(groups)))",
            "stopped with KeyError",
        ),
        ("np.random.default_rng(seed).permutation(np.unique(groups))", "np.unique(groups)", "not shuffled"),
        ("default_rng(seed)", "default_rng()", "two different splits"),
        ("default_rng(seed)", "default_rng(0)", "Another seed gave the same"),
        ("round(0.2 * len(names))", "round(0.2 * len(groups))", "5 belong to val"),
        ("round(0.2 * len(names))", "round(0.3 * len(names))", "5 belong to val"),
        ("names[:held]", "names[held : 2 * held]", "No image is in val"),
        ('    sides |= dict.fromkeys(names[held : 2 * held], "test")\n', "", "No image is on test"),
        ('"val")', '"validation")', "is not a side"),
        ("np.array([sides[name] for name in groups])", "sides", "A dict came back"),
        ("for name in groups])", "for name in names])", "words came back"),
        (
            "    names =",
            "    groups.sort()\n    groups[:] = groups[::-1]\n    names =",
            "groups that arrived were changed",
        ),
        (
            "np.array([sides[name] for name in groups])",
            'np.array([sides[name] if i % 7 else "val" for i, name in enumerate(groups)])',
            "both sides",
        ),
    ],
    "measure": [
        (
            "strategy(train.images, train.labels, budget, seed)",
            "strategy(val.images, val.labels, budget, seed)",
            "fit to validation images",
        ),
        (
            "strategy(train.images, train.labels, budget, seed)",
            "strategy(torch.cat([train.images, val.images]), "
            "np.concatenate([train.labels, val.labels]), budget, seed)",
            "fit to validation images",
        ),
        (
            "predict(val.images).argmax(1) == val.labels",
            "predict(train.images).argmax(1) == train.labels",
            "measured on training images",
        ),
        ("budget, seed)", 'budget * (1 + (name == "finetune")), seed)', "one strategy wins for that alone"),
        ("budget, seed)", "budget, 0)", "once with each seed"),
        ("in seeds:", "in seeds[:1]:", "once with each seed"),
        (
            "        for seed in seeds:\n            predict = strategy(train.images, train.labels, budget, seed)\n",
            "        predict = strategy(train.images, train.labels, budget, seeds[0])\n        for seed in seeds:\n",
            "once with each seed",
        ),
        ("argmax(1)", "argmax(0)[: len(val.labels)]", "stopped with"),
        ("argmax(1)", "argmin(1)", "argmax over axis 1"),
        ("right.astype(float)", "right.mean()", "cannot be compared image by image"),
        ("right.astype(float)", "1 - right.astype(float)", "1 stands for"),
        ('{"strategy": name, "seed": seed, "right"', '{"strategy": name, "right"', "lacks seed"),
        ("            table.append(", "        table.append(", "keep them all"),
        (
            "            table.append(",
            "            table = [] if len(table) > 2 else table\n            table.append(",
            "keep them all",
        ),
        ("train.images, train.labels", "train.images[::2], train.labels[::2]", "the budget is one for all"),
        ("train.labels, budget", "train.labels[::-1].copy(), budget", "not those of the training images"),
        (
            "predict(val.images).argmax(1) == val.labels",
            "predict(val.images)[:, 1] > 0.5",
            "argmax over axis 1",
        ),
        ("    return table", "    return {row['strategy']: row for row in table}", "A dict came back"),
    ],
    "interval": [
        (
            "np.array([values[groups == name].mean() for name in np.unique(groups)])",
            "values",
            "evidence of its own",
        ),
        ("mean, error = means.mean(),", "mean, error = values.mean(),", "that of the images"),
        ("np.sqrt(len(means))", "np.sqrt(len(values))", "number of *images*"),
        ("stats.t.ppf(0.975, len(means) - 1)", "1.96", "Student's t is larger"),
        ("ddof=1", "ddof=0", "divided by n"),
        ("0.975", "0.95", "take 0.975"),
        ("len(means) - 1)", "len(values) - 1)", "n - 1 degrees of freedom"),
        ("len(means) - 1)", "len(means))", "n - 1 degrees of freedom"),
        (" / np.sqrt(len(means))", "", "spread of single photographs"),
        ("stats.t.ppf(0.975, len(means) - 1) * error", "error", "one standard error"),
        ("groups == name].mean()", "groups == name].sum()", "added up"),
        ("mean - reach, mean + reach", "mean + reach, mean - reach", "low lies above"),
        ("return mean, mean - reach, mean + reach", "return mean, reach", "three numbers"),
        ("return mean, mean - reach", "return mean - reach, mean", "comes first"),
        ("means.mean(),", "np.median(means),", "The interval is another"),
    ],
    "choose": [
        ("    return min(ties, key=lambda name: cost[name])", "    return best", "ties or not"),
        ("return min(ties,", "return min(cost,", "however much worse"),
        (
            "interval(right[best] - right[name], groups)[1] <= 0",
            "interval(right[name], groups)[2] >= interval(right[best], groups)[1]",
            "overlap",
        ),
        (
            "interval(right[best] - right[name], groups)[1] <= 0",
            "interval(right[name], groups)[0] >= interval(right[best], groups)[1]",
            "inside the interval of the best",
        ),
        ("return min(ties,", "return max(ties,", "most expensive"),
        (
            "interval(right[best] - right[name], groups)",
            "interval(right[best] - right[name], np.arange(len(groups)))",
            "evidence of its own",
        ),
        ("interval(right[name], groups)[0])", "right[name].mean())", "mean over images"),
        (
            "    best = max(right, key=lambda name: interval(right[name], groups)[0])",
            "    groups = np.arange(len(groups))\n    best = max(right, key=lambda name: interval(right[name], groups)[0])",
            "Nothing was done by photographs",
        ),
        (
            'np.mean([row["right"] for row in table if row["strategy"] == name], axis=0)',
            '[row["right"] for row in table if row["strategy"] == name][0]',
            "One run of each strategy",
        ),
        (
            'np.mean([row["right"] for row in table if row["strategy"] == name], axis=0)',
            '{row["strategy"]: row["right"] for row in table}[name]',
            "last run of each strategy",
        ),
        ("np.mean([row", "np.max([row", "if any run was right"),
        (
            "right[best] - right[name], groups)[1] <= 0",
            "right[name] - right[best], groups)[1] <= 0",
            "however much worse",
        ),
        ("[1] <= 0]", "[1] >= 0]", "clearly worse"),
        ("return min(ties, key=lambda name: cost[name])", "return ties", "not a strategy of the table"),
        ("max(right, key", "min(right, key", "however much worse"),
    ],
    "report": [
        ("interval(right, test.groups)", "interval(right, np.arange(len(right)))", "evidence of its own"),
        ("len(np.unique(test.groups))", "len(right)", "and the line says"),
        ("    right = (", "    predict(test.images)\n    right = (", "opened 2 times"),
        (
            "    right = (predict(test.images).argmax(1) == test.labels).astype(float)",
            "    right = [predict(image[None]).argmax(1)[0] == k for image, k in zip(test.images, test.labels)]\n"
            "    right = np.array(right).astype(float)",
            "Whoever looks twice",
        ),
        (
            "    right = (predict(test.images).argmax(1) == test.labels).astype(float)",
            "    half = len(test.labels) // 2\n"
            "    right = (predict(test.images[:half]).argmax(1) == test.labels[:half]).astype(float)\n"
            "    right = np.append(right, np.ones(len(test.labels) - half))",
            "test images were looked at",
        ),
        ("interval(right, test.groups)", "(100 * x for x in interval(right, test.groups))", "in percent"),
        ("argmax(1) ==", "argmax(1) !=", "that are *wrong*"),
        ('f"{name}: {mean', 'f"probed: {mean', "is called 'probe'"),
        ("[{low:.3f}, {high:.3f}]", "[{high:.3f}, {low:.3f}]", "low lies above"),
        ("{mean:.3f} [", "{high:.3f} [", "one end of the interval"),
        ("{mean:.3f} [", "{mean:.2f} [", "three decimals"),
        ("    return f", "    print(f'{mean:.3f}')\n    return None and f", "Nothing came back"),
        (
            "(predict(test.images).argmax(1) == test.labels).astype(float)",
            "predict(test.images)[np.arange(len(test.labels)), test.labels]",
            "not an accuracy",
        ),
        ("argmax(1)", "argmin(1)", "argmax over axis 1"),
        (" [{low:.3f}, {high:.3f}]", "", "was to look like"),
        (
            "    right = (predict(test.images).argmax(1) == test.labels).astype(float)\n",
            "    right = np.ones(len(test.labels))\n",
            "not looked at",
        ),
    ],
    "predict_one": [
        ("prepare(image)[None]", "prepare(image)", "wants a batch"),
        ('.convert("RGB")', "", "in mode"),
        ("ImageOps.exif_transpose(photograph)", "photograph", "how they were held"),
        ("return classes[int(chances.argmax())]", "return int(chances.argmax())", "is a number"),
        ("classes[int(chances.argmax())]", "sorted(classes)[int(chances.argmax())]", "keep their order"),
        ("classes[int(chances.argmax())]", "classes[int(chances.argmin())]", "smallest probability"),
        (
            "float(chances.max())",
            "float(np.exp(chances).max() / np.exp(chances).sum())",
            "softmax was taken twice",
        ),
        ("float(chances.max())", "100 * float(chances.max())", "in percent"),
        ("float(chances.max())", "float(chances[1])", "not that of the class"),
        (
            "prepare(image)",
            "torch.tensor(np.array(image.resize((6, 6)))).permute(2, 0, 1).float()",
            "was not prepared",
        ),
        ("prepare(image)", "prepare(ImageOps.mirror(image))", "another picture"),
        ("prepare(image)", "prepare(image).flip(0)", "another order"),
        (", float(chances.max())", "", "Return two things"),
        ('convert("RGB")', 'convert("L")', "in mode L"),
        ("prepare(image)[None]", "prepare(image)[None] / 255", "another picture"),
    ],
}

RIGHT = {
    "split": [
        """
def split(groups, seed):
    names = sorted(set(groups.tolist()))
    order = np.random.RandomState(seed).permutation(len(names))
    part = round(len(names) * 0.2)
    words = np.full(len(groups), "train")
    words[np.isin(groups, [names[k] for k in order[:part]])] = "test"
    words[np.isin(groups, [names[k] for k in order[part : 2 * part]])] = "val"
    return words
""",
        """
def split(groups, seed):
    import random
    names = list(np.unique(groups))
    random.Random(seed).shuffle(names)
    place = {name: k / len(names) for k, name in enumerate(names)}
    return ["val" if place[g] < 0.2 else "test" if place[g] < 0.4 else "train" for g in groups]
""",
    ],
    "measure": [
        """
def measure(strategies, train, val, budget, seeds):
    rows = []
    for seed in seeds:
        for name in strategies:
            predict = strategies[name](train.images, train.labels, budget, seed)
            said = [int(np.argmax(chances)) for chances in predict(val.images)]
            rows.append(dict(strategy=name, seed=seed, right=np.array(said) == np.array(val.labels)))
    return rows
""",
        """
def measure(strategies, train, val, budget, seeds):
    def run(name, seed):
        learned = strategies[name](images=train.images, labels=train.labels, budget=budget, seed=seed)
        best = torch.tensor(learned(val.images)).max(1).indices.numpy()
        return {"seed": seed, "right": np.where(best == val.labels, 1, 0), "strategy": name, "budget": budget}

    return [run(name, seed) for name in strategies for seed in seeds]
""",
    ],
    "interval": [
        """
def interval(values, groups):
    import pandas as pd
    means = pd.Series(np.array(values, dtype=float)).groupby(np.array(groups)).mean()
    low, high = stats.t.interval(0.95, len(means) - 1, loc=means.mean(), scale=means.sem())
    return means.mean(), low, high
""",
        """
def interval(values, groups):
    names, place = np.unique(groups, return_inverse=True)
    means = np.bincount(place, weights=values) / np.bincount(place)
    half = -stats.t.ppf(0.025, df=len(names) - 1) * stats.sem(means)
    return [np.mean(means), np.mean(means) - half, np.mean(means) + half]
""",
    ],
    "choose": [
        """
def choose(table, groups, cost):
    runs = {}
    for row in table:
        runs.setdefault(row["strategy"], []).append(row["right"])
    means = {name: sum(rights) / len(rights) for name, rights in runs.items()}
    score = {name: interval(values, groups)[0] for name, values in means.items()}
    best = sorted(score, key=score.get)[-1]
    for name in sorted(cost, key=cost.get):
        _, low, high = interval(means[name] - means[best], groups)
        if name == best or low <= 0 <= high:
            return name
""",
        """
def choose(table, groups, cost):
    import pandas as pd
    frame = pd.DataFrame({"name": [row["strategy"] for row in table], "right": [row["right"] for row in table]})
    per_image = {name: np.stack(list(part)).mean(0) for name, part in frame.groupby("name")["right"]}
    best, top = None, -1
    for name, values in per_image.items():
        if interval(values, groups)[0] > top:
            best, top = name, interval(values, groups)[0]
    good = {best} | {n for n, v in per_image.items() if interval(per_image[best] - v, groups)[1] <= 0}
    return sorted((cost[name], name) for name in good)[0][1]
""",
    ],
    "report": [
        """
def report(name, predict, test):
    chances = predict(test.images)
    said = np.array([row.argmax() for row in chances])
    numbers = interval(np.where(said == np.array(test.labels), 1.0, 0.0), np.array(test.groups))
    photographs = len(set(list(test.groups)))
    return "%s: %.3f [%.3f, %.3f] on %d photographs" % (name, *numbers, photographs)
""",
        """
def report(name, predict, test):
    best = torch.as_tensor(predict(test.images)).argmax(dim=-1)
    right = (best == torch.as_tensor(test.labels)).double().numpy()
    mean, low, high = (format(number, ".3f") for number in interval(right, test.groups))
    return name + ": " + mean + " [" + low + ", " + high + f"] on {np.unique(test.groups).size} photographs"
""",
    ],
    "predict_one": [
        """
def predict_one(path, prepare, predict, classes):
    image = data.load_image(path)
    (chances,) = predict(torch.stack([prepare(image)]))
    best = max(range(len(classes)), key=lambda k: chances[k])
    return classes[best], chances[best]
""",
        """
def predict_one(path, prepare, predict, classes):
    image = Image.open(path)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode != "RGB":
        image = image.convert("RGB")
    top = torch.tensor(predict(prepare(image).unsqueeze(0))[0]).max(0)
    return [classes[top.indices], top.values.item()]
""",
    ],
}
