"""Answers to the exercises of lesson 10: check -> (answer, word of what is said of it)."""

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from tlutils.checks import lesson_10

ANSWERS = {}


def asked(images, answer=lambda logits, classes: classes[logits.argmax(1)], evaluate=True):
    """A prediction with one part exchanged."""

    @torch.no_grad()
    def predict(model, classes, prepare, path):
        model.train(not evaluate)
        return answer(model(images(path, prepare)), classes)

    return predict


def usual(path, prepare):
    return prepare(Image.open(path).convert("RGB"))[None]


def bgr(path, prepare):
    turned = np.ascontiguousarray(np.asarray(Image.open(path).convert("RGB"))[..., ::-1])
    return prepare(Image.fromarray(turned))[None]


def plain_tensor(path, prepare):
    resized = Image.open(path).convert("RGB").resize((16, 16))
    return transforms.functional.to_tensor(resized)[None]


ANSWERS[lesson_10.check_predict] = [
    (None, "Not answered"),
    (lambda *four: None, "Not answered"),
    (asked(usual, answer=lambda logits, classes: None), "Nothing came back"),
    (asked(usual, evaluate=False), "in training mode"),
    (asked(lambda path, prepare: usual(path, prepare)[0]), "unsqueeze(0)"),
    (asked(plain_tensor), "prepared in another way"),
    (asked(bgr), "Red and blue are swapped"),
    (asked(lambda path, prepare: prepare(Image.open(path))[None]), "It is no RGB photograph"),
    (asked(usual, lambda logits, classes: classes[logits.argmax(0)]), "argmax(1)"),
    (asked(usual, lambda logits, classes: classes[logits.argmax(0)[0]]), "along axis 0"),
    (asked(usual, lambda logits, classes: classes[logits.softmax(0).argmax()]), "along axis 0"),
    (asked(usual, lambda logits, classes: logits.argmax(1).item()), "A int came back"),
    (asked(usual, lambda logits, classes: classes[logits.argsort(1)[0, 1]]), "and you say"),
    (asked(usual, lambda logits, classes: "purple"), "'purple' is not one"),
    (lambda model, classes, prepare, path: classes[2], "never asked"),
    (
        lambda model, classes, prepare, path: classes[model.eval()(usual(path, prepare)).argmax(1)],
        "torch.no_grad()",
    ),
    (asked(lambda path, prepare: Image.open(str(path) + ".jpg")), "stopped with FileNotFoundError"),
]
