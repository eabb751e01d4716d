"""Answers to assignment 02 that learners give: wrong ones as (solved lines, lines instead, word of the hint)."""

WRONG = {
    "embed": [
        ("    backbone.eval()\n", "    backbone.train()\n", "training mode"),
        ("    with torch.no_grad():\n", "    if True:\n", "stopped with RuntimeError"),
        (
            "    with torch.no_grad():\n        features = [backbone(images) for",
            "    if True:\n        features = [backbone(images).detach() for",
            "no_grad() saves",
        ),
        ("torch.cat(features).numpy()", "torch.cat(features)", "A Tensor came back"),
        ("torch.cat(features)", "features[-1]", "last batch"),
        ("backbone(images) for", "backbone(images).mean(0, keepdim=True) for", "means of whole batches"),
        ("torch.cat(features).numpy()", "torch.cat(features).numpy().T", "the other way round"),
        ("torch.cat(features).numpy()", "torch.cat(features).mean(1).numpy()", "averaged away"),
        ("torch.cat(features)", "torch.nn.functional.normalize(torch.cat(features))", "have length 1"),
        ("torch.cat(features)", "torch.cat(features).softmax(1)", "softmax"),
        ("torch.cat(features)", "torch.cat(features[:2])", "11 images give 11 rows"),
        ("torch.cat(features)", "torch.cat(features[::-1])", "keep the order"),
        ("torch.cat(features)", "torch.stack(features)", "stopped with RuntimeError"),
    ],
    "standardise": [
        ("(val - mean) / spread", "(val - val.mean(0)) / val.std(0)", "their own mean"),
        (
            "mean, spread = train.mean(0), train.std(0)",
            "both = np.concatenate([train, val])\n    mean, spread = both.mean(0), both.std(0)",
            "train and val together",
        ),
        (
            "mean, spread = train.mean(0), train.std(0)",
            "mean, spread = train.mean(), train.std()",
            "axis=0 is missing",
        ),
        ("train.std(0)", "train.var(0)", "variance"),
        (
            "return (train - mean) / spread, (val - mean)",
            "return train / spread, val",
            "mean is not subtracted",
        ),
        (
            "return (train - mean) / spread, (val - mean) / spread",
            "return train - mean, val - mean",
            "divide by the standard deviation",
        ),
        (
            "mean, spread = train.mean(0), train.std(0)",
            "mean, spread = train.min(0), np.ptp(train, axis=0)",
            "range of 0 to 1",
        ),
        ("return (train - mean) / spread,", "return train,", "scale both alike"),
        (
            "(val - mean) / spread",
            "(val - val.mean(1, keepdims=True)) / val.std(1, keepdims=True)",
            "scaled by itself",
        ),
        (
            "return (train - mean) / spread, (val - mean) / spread",
            "train -= mean\n    train /= spread\n    return train, (val - mean) / spread",
            "arrays that arrived were changed",
        ),
        (
            "return (train - mean) / spread, (val - mean) / spread",
            "return (val - mean) / spread",
            "Return two arrays",
        ),
        ("(val - mean) / spread", "(val + mean) / spread", "not standardised"),
    ],
    "choose_penalty": [
        ("fit(x[~held], y[~held], penalty)", "fit(x, y, penalty)", "that it had seen"),
        ("fit(x[~held], y[~held], penalty)", "fit(x[held], y[held], penalty)", "that it had seen"),
        ("np.arange(len(y)) % folds", "np.arange(len(y)) * folds // len(y)", "sorted by class"),
        ("np.argmin", "np.argmax", "largest loss"),
        ("-np.log(chances)", "np.log(chances)", "largest loss"),
        ("-np.log(chances).mean()", "-(chances > 0.5).mean()", "by accuracy"),
        ("-np.log(chances).mean()", "-chances.mean()", "mean probability"),
        ("return penalties[int(np.argmin(losses))]", "return int(np.argmin(losses))", "its place"),
        ("return penalties[int(np.argmin(losses))]", "return min(losses)", "its loss"),
        ("range(folds)", "range(1)", "3 fits"),
        ("-np.log(chances).mean()", "-np.log(chances[fold == 0]).mean()", "one fold"),
        (
            "-np.log(chances).mean()",
            "min(-np.log(chances[fold == k]).mean() for k in range(folds))",
            "best fold",
        ),
        ("penalties:\n", "penalties[:2]:\n", "3 fits"),
    ],
    "repaired": [
        (
            '    surgery.freeze_to(model, "head")\n',
            "    model.requires_grad_(False)\n    model.fc.requires_grad_(True)\n",
            "bn-drift",
        ),
        (
            "surgery.replace_head(model, classes, seed=0)",
            "model.fc.out_features = classes",
            "out_features is a label",
        ),
        ("    surgery.replace_head(model, classes, seed=0)\n", "", "head-width"),
        (
            "surgery.replace_head(model, classes, seed=0)",
            "model.head = torch.nn.Linear(32, classes)",
            "stopped with LearnerError",
        ),
        ('    surgery.freeze_to(model, "head")\n', "", "optimizer-lacks"),
        ("model.fc.parameters(), lr=0.01", "list(model.parameters())[:3], lr=0.01", "optimizer-lacks"),
        (
            '    surgery.replace_head(model, classes, seed=0)\n    surgery.freeze_to(model, "head")\n    optimizer = '
            "torch.optim.SGD(model.fc.parameters(), lr=0.01, momentum=0.9)\n",
            "    optimizer = "
            "torch.optim.SGD(model.fc.parameters(), lr=0.01, momentum=0.9)\n    surgery.replace_head(model, classes, "
            'seed=0)\n    surgery.freeze_to(model, "head")\n',
            "optimizer-",
        ),
        (
            'surgery.freeze_to(model, "head")\n    optimizer = torch.optim.SGD(model.fc.parameters()',
            "surgery.freeze_to("
            'model, "last")\n    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad)',
            "More than the head",
        ),
        ("model.fc.parameters()", "[model.fc.weight]", "optimizer-lacks"),
        ("lr=0.01", "lr=0.0", "Nothing moved"),
        ("return model.train(), optimizer", "return model", "Return two things"),
        (
            "    return model.train(), optimizer\n",
            "    for p in model.parameters():\n        p.requires_grad = False\n    "
            "return model.train(), optimizer\n",
            "nothing-trains",
        ),
    ],
    "interval": [
        (" / np.sqrt(len(values))", "", "spread of single images"),
        ("np.sqrt(len(values))", "len(values)", "divided by the *root*"),
        ("mean - 1.96 * error, mean + 1.96 * error", "mean - error, mean + error", "one standard error"),
        ("values.std(ddof=1)", "values.var(ddof=1)", "variance"),
        (
            "mean - 1.96 * error, mean + 1.96 * error",
            "mean + 1.96 * error, mean - 1.96 * error",
            "low lies above",
        ),
        ("mean - 1.96 * error, mean + 1.96 * error", "mean - 1.64 * error, mean + 1.64 * error", "90%"),
        (
            "mean - 1.96 * error, mean + 1.96 * error",
            "mean - 3.92 * error, mean + 3.92 * error",
            "to each side",
        ),
        ("return mean, mean", "return 100 * mean, mean", "percent"),
        ("return mean, mean", "return np.median(values), mean", "not the mean"),
        ("mean - 1.96 * error, mean + 1.96 * error", "mean, mean + 1.96 * error", "around the mean"),
        (
            "return mean, mean - 1.96 * error, mean + 1.96 * error",
            "return mean, 1.96 * error",
            "three numbers",
        ),
    ],
    "verdict": [
        (
            '    _, low, high = interval(one - other)\n    return "better" if low > 0 else "worse" if high < 0 else "a tie"',
            '    (_, a, b), (_, c, d) = interval(one), interval(other)\n    return "better" if a > d else "worse" if b < c '
            'else "a tie"',
            "two separate intervals",
        ),
        ("interval(one - other)", "interval(other - one)", "the other way round"),
        (
            '"better" if low > 0 else "worse" if high < 0 else "a tie"',
            '"better" if one.mean() > other.mean() else "worse"',
            "exactly nothing",
        ),
        (
            '"better" if low > 0 else "worse" if high < 0 else "a tie"',
            '"better" if low + high > 0 else "worse" if low + high < 0 else "a tie"',
            "what chance gives",
        ),
        ('else "a tie"', 'else "tie"', "is not a verdict"),
        (
            '"better" if low > 0 else "worse" if high < 0',
            '"better" if high > 0 else "worse" if low < 0',
            "what chance gives",
        ),
        ('"better" if low > 0', "True if low > 0", "is not a verdict"),
        (
            '"better" if low > 0 else "worse" if high < 0 else',
            'not low <= 0 <= high and "better" or',
            "do not follow",
        ),
        ('"better" if low > 0 else "worse" if high < 0 else "a tie"', '"a tie"', "two separate intervals"),
        ("interval(one - other)", "interval(one.mean() - other.mean())", "stopped with"),
        (
            "interval(one - other)",
            "one.mean() - other.mean(), (one - other).mean() - 1.96 * (one - other).std(), "
            "(one - other).mean() + 1.96 * (one - other).std()",
            "two separate intervals",
        ),
    ],
}

RIGHT = {
    "embed": [
        """
@torch.inference_mode()
def embed(backbone, batches):
    was, out = backbone.training, []
    for images in batches:
        out.append(backbone.eval()(images).cpu().numpy())
    backbone.train(was)
    return np.concatenate(out)
""",
        """
def embed(backbone, batches):
    backbone.train(False)
    rows = []
    with torch.no_grad():
        for images in batches:
            for image in images:
                rows.append(backbone(image[None])[0])
    return np.array(torch.stack(rows))
""",
    ],
    "standardise": [
        """
def standardise(train, val):
    from sklearn.preprocessing import StandardScaler
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(val)
""",
        """
def standardise(train, val):
    center = np.sum(train, axis=0) / len(train)
    sd = np.sqrt(((train - center) ** 2).sum(axis=0) / (len(train) - 1)) + 1e-9
    return [(rows - center) / sd for rows in (train, val)]
""",
    ],
    "choose_penalty": [
        """
def choose_penalty(x, y, penalties, fit, folds):
    def loss(penalty):
        total = 0.0
        for k in range(folds):
            out = list(range(k, len(y), folds))
            rest = [i for i in range(len(y)) if i % folds != k]
            p = fit(x[rest], y[rest], penalty)(x[out])
            total -= sum(np.log(p[row, y[i]]) for row, i in enumerate(out))
        return total / len(y)

    return min(penalties, key=loss)
""",
        """
def choose_penalty(x, y, penalties, fit, folds):
    from sklearn.metrics import log_loss
    totals = dict.fromkeys(penalties, 0.0)
    rows = np.arange(len(y))
    for k in range(folds):
        inside = rows % folds == k
        for penalty in penalties:
            p = fit(x[~inside], y[~inside], penalty)(x[inside])
            totals[penalty] += log_loss(y[inside], p, labels=range(p.shape[1])) * inside.sum()
    return sorted(totals.items(), key=lambda item: item[1])[0][0]
""",
    ],
    "repaired": [
        """
def repaired(classes):
    model = network(classes)
    surgery.freeze_to(model, "head")
    trains = [p for p in model.parameters() if p.requires_grad]
    return model.train(), torch.optim.AdamW(trains, lr=1e-3)
""",
        """
def repaired(classes):
    model = network(10)
    model.fc = torch.nn.Linear(model.fc.in_features, classes)
    model = surgery.freeze_to(model, "head")
    optimizer = torch.optim.SGD(surgery.param_groups(model, 0.01), lr=0.01, momentum=0.9)
    model.train()
    return [model, optimizer]
""",
    ],
    "interval": [
        """
def interval(values):
    n = len(values)
    mean = sum(values) / n
    error = (sum((v - mean) ** 2 for v in values) / (n * (n - 1))) ** 0.5
    return [mean, mean - 1.96 * error, mean + 1.96 * error]
""",
        """
def interval(values):
    reach = 1.96 * np.std(values) / len(values) ** 0.5
    return np.array([np.mean(values), np.mean(values) - reach, np.mean(values) + reach])
""",
    ],
    "verdict": [
        """
def verdict(one, other):
    gained, lost = ((one == 1) & (other == 0)).sum(), ((one == 0) & (other == 1)).sum()
    n = len(one)
    mean = (gained - lost) / n
    error = np.sqrt(((gained + lost) / n - mean**2) / n)
    if abs(mean) <= 1.96 * error:
        return "a tie"
    return "better" if mean > 0 else "worse"
""",
        """
def verdict(one, other):
    from scipy import stats
    difference = np.asarray(one) - np.asarray(other)
    if not difference.any():
        return "a tie"
    low, high = stats.norm.interval(0.95, difference.mean(), stats.sem(difference))
    return {(True, True): "better", (False, False): "worse"}.get((low > 0, high > 0), "a tie")
""",
    ],
}
