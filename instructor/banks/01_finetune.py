"""Answers to assignment 01 that learners give: wrong ones as (solved lines, lines instead, word of the hint)."""

WRONG = {
    "prepare": [
        (
            "model.classifier = nn.Linear(model.classifier.in_features, classes)",
            "model.classifier.out_features = classes\n    model.classifier.requires_grad_(True)",
            "out_features",
        ),
        ("model.classifier = nn", "model.fc = nn", "a name that forward does not call"),
        (
            "nn.Linear(model.classifier.in_features, classes)",
            "nn.Sequential(nn.Linear(model.classifier.in_features, classes), nn.Softmax(1))",
            "softmax",
        ),
        ("model.requires_grad_(False)", "model.eval()", "eval() and no_grad() do not"),
        ("return model", "model.requires_grad_(False)\n    return model", "Nothing trains"),
        ("model.classifier.in_features, classes", "1280, classes", "does not fit"),
        (
            "nn.Linear(model.classifier.in_features, classes)",
            "nn.Sequential(model.classifier, nn.Linear(10, classes))",
            "stands on the old head",
        ),
        ("    return model\n", "", "Nothing came back"),
        ("return model", "return model.classifier", "without its network"),
        (
            "in_features, classes)",
            "in_features, 1 if classes == 2 else classes - 1)",
            "outputs, and there are",
        ),
        (
            "model.requires_grad_(False)",
            "for layer in model.modules():\n        if isinstance(layer, nn.Conv2d):\n"
            "            layer.requires_grad_(False)",
            "BatchNorm has a weight",
        ),
        (
            "return model",
            "model.classifier.bias.requires_grad_(False)\n    return model",
            "A part of the head is frozen",
        ),
    ],
    "make_optimizer": [
        (
            "    model.requires_grad_(True)\n    rest = [p for name, p in model.named_parameters() if not",
            "    rest = [p for name, p in model.named_parameters() if p.requires_grad and not",
            "still frozen",
        ),
        (
            "    model.requires_grad_(True)\n    rest = [p for name, p in model.named_parameters() if not "
            'name.startswith("classifier")]',
            "    rest = [p for name, p in model.named_parameters() if p.requires_grad and not "
            'name.startswith("classifier")]\n    model.requires_grad_(True)',
            "before unfreezing",
        ),
        ("    model.requires_grad_(True)\n", "", "still frozen"),
        (
            '"lr": lr}, {"params": list(model.classifier.parameters()), "lr": head_lr}',
            '"lr": head_lr}, {"params": list(model.classifier.parameters()), "lr": lr}',
            "swapped",
        ),
        ("torch.optim.AdamW(groups)", "torch.optim.AdamW(model.parameters(), lr)", "One rate for all"),
        (', {"params": list(model.classifier.parameters()), "lr": head_lr}', "", "The head is in no group"),
        ("list(model.classifier.parameters())", "[model.classifier.weight]", "Biases"),
        (
            "in model.named_parameters() if",
            "in copy.deepcopy(model).named_parameters() if",
            "copies do not train",
        ),
        ('"lr": head_lr}', '"lr": 1e-3}', "not the two that were asked for"),
        ("if not name", 'if "weight" in name and not name', "Biases"),
        ("    return torch.optim.AdamW(groups)\n", "", "Nothing came back"),
    ],
    "train_epoch": [
        ("(model(images), labels)", "(model(images).softmax(1), labels)", "softmax"),
        (
            "    for layer in model.modules():\n        if isinstance(layer, nn.BatchNorm2d) and not "
            "layer.weight.requires_grad:\n            layer.eval()\n",
            "",
            "BatchNorm drifts",
        ),
        ("and not layer.weight.requires_grad", "", "stays in eval mode although"),
        ("    model.train()\n", "", "trains in eval mode"),
        ("        optimizer.zero_grad()\n", "", "earlier batches are still there"),
        ("        loss.backward()\n", "", "backward() is missing"),
        ("        optimizer.step()\n", "", "step() is missing"),
        (
            "        loss.backward()\n        optimizer.step()",
            "        optimizer.step()\n        loss.backward()",
            "step() comes before",
        ),
        (
            "        optimizer.zero_grad()\n        loss.backward()\n",
            "        loss.backward()\n        optimizer.zero_grad()\n",
            "between backward() and step()",
        ),
        ("F.cross_entropy", "F.nll_loss", "nll_loss"),
        (
            "    return total / len(loader.dataset)",
            "        return total / len(loader.dataset)",
            "return inside",
        ),
        ("return total / len(loader.dataset)", "return loss.item()", "last batch"),
        (
            "loss.item() * len(labels)\n    return total / len(loader.dataset)",
            "loss.item()\n    return total / len(loader)",
            "mean over batches",
        ),
        ("return total / len(loader.dataset)", "return total", "a sum"),
        ("loss.item() * len(labels)", "loss.item()", "a mean already"),
        ("loss.item() * len(labels)", "loss * len(labels)", "holds the graph"),
    ],
    "evaluate": [
        ("    model.eval()\n", "", "training mode"),
        ("    with torch.no_grad():\n", "    if True:\n", "no_grad() saves"),
        ("argmax(1)", "argmax(0)", "wrong axis"),
        ("return right / len(loader.dataset)", "return right", "how many are right"),
        ("return right / len(loader.dataset)", "return 100 * right / len(loader.dataset)", "percent"),
        (
            ".sum().item()\n    return right / len(loader.dataset)",
            ".float().mean().item()\n    return right / len(loader)",
            "mean of the batches'",
        ),
        (
            "right += (model(images).argmax(1) == labels).sum().item()\n    return right / len(loader.dataset)",
            "right = (model(images).argmax(1) == labels).float().mean().item()\n    return right",
            "last batch",
        ),
        ("    return right / len(loader.dataset)", "            return right / len(labels)", "return inside"),
        ("== labels", "!= labels", "that are wrong"),
        ("argmax(1)", "argmin(1)", "believes in least"),
        (
            "    return right",
            "    F.cross_entropy(model(images), labels).backward()\n    return right",
            "no backward()",
        ),
    ],
    "finetune": [
        ("copy.deepcopy(model.state_dict())", "model.state_dict()", "it is not a copy"),
        ("    model.load_state_dict(best)\n", "", "The last epoch came back"),
        (
            "            optimizer = make_optimizer(model, 3e-4, 3e-3)\n",
            "            model.requires_grad_(False)\n",
            "element 0 of tensors does not require grad",
        ),
        (
            "        if epoch == epochs:\n            optimizer = make_optimizer(model, 3e-4, 3e-3)\n",
            "",
            "stays frozen in the second phase",
        ),
        (
            "    optimizer = torch.optim.AdamW(model.classifier.parameters(), lr=3e-3)\n",
            "    optimizer = make_optimizer(model, 3e-4, 3e-3)\n",
            "never trains alone",
        ),
        (
            "history.append(evaluate(model, val_loader))",
            "history.append(evaluate(model, train_loader))",
            "did not learn from",
        ),
        (
            "train_epoch(model, train_loader, optimizer)",
            "train_epoch(model, val_loader, optimizer)",
            "learns from the validation",
        ),
        ("range(2 * epochs)", "range(epochs)", "are 4 epochs"),
        ("range(2 * epochs)", "range(2 * epochs + 1)", "are 4 epochs"),
        ("if epoch == epochs:", "if epoch == epochs - 1:", "steps and 4"),
        ("return model, history", "return history", "Return two things"),
        ("return model, history", "return model, max(history)", "list of accuracies"),
        ("history[-1] > max(history[:-1])", "history[-1] < min(history[:-1])", "best epoch"),
        (
            "history[-1] > max(history[:-1])",
            "epoch == epochs or history[-1] > max(history[epochs:-1] or [0])",
            "forgotten between the phases",
        ),
        ("history[-1] > max(history[:-1])", "history[-1] > history[-2]", "an earlier one was better"),
        (
            "history.append(evaluate(model, val_loader))",
            "history.append(round(evaluate(model, val_loader)))",
            "not the accuracy on the validation images after each",
        ),
    ],
    "choose": [
        ('append(row["val"])', 'append(row["test"])', "test images"),
        (
            "    best = max",
            "    means = {name: max(values) for name, values in runs.items()}\n    best = max",
            "best run",
        ),
        ("sum(values) / len(values)", "sum(values)", "by a sum"),
        (
            "return min((name for name in means if means[name] >= means[best] - error), key=cost.get)",
            "return best",
            "is a tie",
        ),
        ("return min((", "return max((", "is a tie"),
        (" / len(runs[best]) ** 0.5", "", "divided by the root"),
        ("means[best] - error", "means[best] - 0.05", "standard error"),
        ("return min((", "return (min, list)[1]((", "stopped with TypeError"),
        ("key=cost.get)\n", "key=cost.get)[0]\n", "There is no strategy"),
        ("means[name] >= means[best] - error", "True", "divided by the root"),
        ("max(means, key=means.get)", "max(means.values())", "stopped with KeyError"),
    ],
}

RIGHT = {
    "prepare": [
        """
def prepare(network, classes):
    for p in network.parameters():
        p.requires_grad = False
    network.classifier = torch.nn.Linear(network.classifier.weight.shape[1], classes)
    return network
""",
        """
def prepare(model, classes):
    setattr_head = nn.Linear(model.classifier.in_features, classes)
    nn.init.zeros_(setattr_head.bias)
    model.classifier = setattr_head
    for name, p in model.named_parameters():
        p.requires_grad = name in ("classifier.weight", "classifier.bias")
    return model
""",
    ],
    "make_optimizer": [
        """
def make_optimizer(model, lr, head_lr):
    for p in model.parameters():
        p.requires_grad = True
    own = {id(p) for p in model.classifier.parameters()}
    rest = (p for p in model.parameters() if id(p) not in own)
    return torch.optim.AdamW([{"params": model.classifier.parameters(), "lr": head_lr}, {"params": rest}], lr=lr)
""",
        """
def make_optimizer(model, lr, head_lr):
    model.requires_grad_()
    return torch.optim.AdamW(
        [{"params": [p], "lr": head_lr if "classifier" in n else lr} for n, p in model.named_parameters()]
    )
""",
    ],
    "train_epoch": [
        """
def train_epoch(model, loader, optimizer):
    for layer in model.modules():
        frozen_norm = isinstance(layer, nn.BatchNorm2d) and not layer.weight.requires_grad
        layer.training = not frozen_norm
    losses, sizes = [], []
    for x, y in loader:
        logits = model(x).log_softmax(dim=-1)
        loss = F.nll_loss(logits, y, reduction="sum")
        model.zero_grad()
        (loss / len(y)).backward()
        optimizer.step()
        losses.append(loss.detach())
        sizes.append(len(y))
    return torch.stack(losses).sum() / sum(sizes)
""",
        """
def train_epoch(model, loader, optimizer):
    model.train()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.train(m.weight.requires_grad)
    criterion, total, n = nn.CrossEntropyLoss(), 0, 0
    for images, labels in loader:
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total, n = total + loss.item() * images.shape[0], n + images.shape[0]
    return total / n
""",
    ],
    "evaluate": [
        """
@torch.inference_mode()
def evaluate(model, loader):
    hits = [model.eval()(x).softmax(1).argmax(-1) == y for x, y in loader]
    return torch.cat(hits).float().mean().item()
""",
        """
def evaluate(model, loader):
    was = model.training
    model.train(False)
    right = n = 0
    for x, y in loader:
        with torch.no_grad():
            right += int((model(x).topk(1).indices.flatten() == y).sum())
        n += len(y)
    model.train(was)
    return right / n
""",
    ],
    "finetune": [
        """
def finetune(model, train_loader, val_loader, epochs):
    accuracies, states = [], []
    for phase in ("head", "all"):
        if phase == "head":
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
        else:
            optimizer = make_optimizer(model, lr=3e-4, head_lr=3e-3)
        for _ in range(epochs):
            train_epoch(model, train_loader, optimizer)
            accuracies.append(evaluate(model, val_loader))
            states.append({name: value.clone() for name, value in model.state_dict().items()})
    model.load_state_dict(states[accuracies.index(max(accuracies))])
    return model, accuracies
""",
        """
def finetune(model, train_loader, val_loader, epochs):
    history = []
    kept, top = None, -1.0

    def epoch(optimizer):
        nonlocal kept, top
        train_epoch(model, train_loader, optimizer)
        history.append(evaluate(model, val_loader))
        if history[-1] > top:
            kept, top = copy.deepcopy(model), history[-1]

    optimizer = torch.optim.AdamW(model.classifier.parameters(), lr=3e-3)
    for _ in range(epochs):
        epoch(optimizer)
    optimizer = make_optimizer(model, 3e-4, 3e-3)
    for _ in range(epochs):
        epoch(optimizer)
    return kept, history
""",
    ],
    "choose": [
        """
def choose(table):
    names = sorted({row["strategy"] for row in table})
    values = {n: torch.tensor([r["val"] for r in table if r["strategy"] == n]) for n in names}
    best = max(names, key=lambda n: values[n].mean())
    least = values[best].mean() - values[best].std() / len(values[best]) ** 0.5
    cheap = sorted(table, key=lambda row: row["parameters"])
    return next(row["strategy"] for row in cheap if values[row["strategy"]].mean() >= least)
""",
        """
def choose(table):
    from statistics import mean, stdev
    by = {}
    for row in table:
        by.setdefault((row["parameters"], row["strategy"]), []).append(row["val"])
    best = max(by.values(), key=mean)
    limit = mean(best) - stdev(best) / len(best) ** 0.5
    return min(key for key, values in by.items() if mean(values) >= limit)[1]
""",
    ],
}
