"""Answers to assignment 03 that learners give: wrong ones as (solved lines, lines instead, word of the hint)."""

WRONG = {
    "saliency": [
        ("scores = model(x).gather", "scores = model(x).softmax(1).gather", "gradient of the probability"),
        (
            "scores = model(x).gather(1, labels[:, None])",
            "scores = F.cross_entropy(model(x), labels)",
            "gradient of the loss",
        ),
        ("model(x).gather(1, labels[:, None])", "model(x).amax(1)", "of the predicted class"),
        ("model(x).gather(1, labels[:, None])", "model(x)", "all scores together"),
        ("gradient.abs().amax(1)", "gradient.amax(1)", "The signs were left"),
        ("gradient.abs().amax(1)", "gradient.amax(1).abs()", "before the absolute value"),
        ("gradient.abs().amax(1)", "gradient.abs().mean(1)", "mean over channels"),
        ("gradient.abs().amax(1)", "gradient.abs().sum(1)", "sum over channels"),
        ("gradient.abs().amax(1)", "gradient.abs().amax(0)", "wrong axis"),
        ("gradient.abs().amax(1)", "gradient", "one number for each pixel"),
        (
            "images.clone().requires_grad_()",
            "images.clone().requires_grad_()\n    model.train()",
            "eval mode",
        ),
        (
            "    (gradient,) = torch.autograd.grad(scores.sum(), x)",
            "    images += 0\n    images[:] = images.clamp(-1, 1)\n"
            "    (gradient,) = torch.autograd.grad(scores.sum(), x)",
            "image that arrived was changed",
        ),
        ("labels[:, None]", "labels[None, :]", "not the saliency maps"),
    ],
    "fool": [
        ("scores[0, target]", "scores.softmax(1)[0, target]", "gradient of the probability"),
        (" / gradient.norm()", "", "not divided by its length"),
        ("x + rate", "x - rate", "steps go down"),
        ("scores[0, target]", "scores.max()", "predicted already"),
        ("scores[0, target]", "-scores.max()", "Raise the target's"),
        ("scores[0, target]", "-F.cross_entropy(scores, torch.tensor([target]))", "or of the loss"),
        (
            "        if scores.argmax(1).item() == target:\n            break\n",
            "",
            "more was changed than needed",
        ),
        ("image.clone()", "image", "image that arrived was changed"),
        ("range(30)", "range(1)", "another class than the target"),
        ("return x.detach()", "return x.requires_grad_() * 1", "graph of every step"),
        ("return x.detach()", "return image", "nothing was changed"),
        ("gradient / gradient.norm()", "gradient.sign()", "not by the steps of the exercise"),
        ("return x.detach()", "return x.detach()[0]", "Return the changed image"),
        (
            "        (gradient,) = torch.autograd.grad(scores[0, target], x)\n",
            "        (gradient,) = torch.autograd.grad(scores[0, target], x)\n        model[-1].bias.data[target] += 1\n",
            "The network was changed",
        ),
    ],
    "class_image": [
        (".clamp(-1, 1)", "", "Clipping was forgotten"),
        (".clamp(-1, 1)\n    return x", "\n    return x.clamp(-1, 1)", "Clipped once"),
        (".clamp(-1, 1)", ".clamp(0, 1)", "Clipped to 0 and 1"),
        ("model(x)[0, target]", "model(x).softmax(1)[0, target]", "gradient of the probability"),
        ("model(x)[0, target]", "model(x).log_softmax(1)[0, target]", "gradient of the loss"),
        ("x + rate", "x - rate", "steps go down"),
        (" - penalty * (x**2).sum()", "", "penalty is missing"),
        ("- penalty * (x**2)", "+ penalty * (x**2)", "wrong sign"),
        ("(x**2).sum()", "x.norm()", "not its square"),
        (" / gradient.norm()", "", "not divided by its length"),
        ("range(steps)", "range(steps - 1)", "A step is missing"),
        ("range(steps)", "range(steps + 1)", "too many"),
        ("model(x)[0, target]", "model(x).sum()", "pick the target's"),
        ("    return x\n", "    return start\n", "nothing was changed"),
        ("(x**2).sum()", "(x**2).mean()", "not what these steps"),
        (
            "        (gradient,) = torch.autograd.grad(value, x)\n",
            "        (now,) = torch.autograd.grad(value, x)\n        gradient = now if _ == 0 else gradient + now\n",
            "earlier steps are still there",
        ),
    ],
}

RIGHT = {
    "saliency": [
        """
def saliency(model, images, labels):
    x = images.detach().clone()
    x.requires_grad = True
    scores = model(x)
    scores[torch.arange(len(labels)), labels].sum().backward()
    model.zero_grad()
    return x.grad.abs().max(dim=1).values
""",
        """
def saliency(model, images, labels):
    maps = []
    for image, label in zip(images, labels):
        x = image[None].clone().requires_grad_(True)
        model(x)[0, label].backward()
        maps.append(torch.max(torch.abs(x.grad), dim=1)[0])
    return torch.cat(maps)
""",
    ],
    "fool": [
        """
def fool(model, image, target, rate):
    fooling = image.detach().clone().requires_grad_()
    for step in range(30):
        logits = model(fooling)
        if logits.max(1)[1] == target:
            break
        logits[0, target].backward()
        with torch.no_grad():
            fooling += rate * fooling.grad / torch.norm(fooling.grad)
            fooling.grad.zero_()
    return fooling.detach()
""",
        """
def fool(model, image, target, rate):
    x, steps = image * 1, 0
    while model(x).argmax() != target and steps < 30:
        leaf = x.detach().requires_grad_()
        direction = torch.autograd.grad(model(leaf)[:, target].sum(), leaf)[0]
        x, steps = x + rate * F.normalize(direction.flatten(), dim=0).view_as(x), steps + 1
    return x
""",
    ],
    "class_image": [
        """
def class_image(model, target, start, steps, rate, penalty):
    x = start.clone().requires_grad_()
    for _ in range(steps):
        model.zero_grad()
        model(x)[0, target].backward()
        with torch.no_grad():
            g = x.grad - 2 * penalty * x
            x += rate * g / g.norm()
            x.clamp_(-1, 1)
            x.grad = None
    return x.detach()
""",
        """
def class_image(model, target, start, steps, rate, penalty):
    image = start
    while steps:
        leaf = image.clone().requires_grad_(True)
        loss = penalty * leaf.pow(2).sum() - model(leaf)[:, target].sum()
        loss.backward()
        image = torch.clip(image - rate * leaf.grad / leaf.grad.pow(2).sum().sqrt(), min=-1, max=1)
        steps -= 1
    return image
""",
    ],
}
