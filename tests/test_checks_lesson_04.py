"""The exercises of lesson 04: the right answer passes, and each mistake is called by its name."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import tiny_net

from tlutils import metrics, surgery
from tlutils.checks import lesson_04
from tlutils.train import Phase, Recipe


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "Not answered"),
        (0.1 * 0.4**2, "Right"),
        (0.1, "slower"),
        (0.1 * 0.4**3, "One factor too many"),
        (0.1 * 0.4**4, "Two factors"),
        (0.1 / 0.4**2, "wrong way round"),
        (0.077, "Not yet"),
    ],
)
def test_the_rate_of_a_stage(answer, said, capsys):
    stages = surgery.stages(tiny_net())  # three stages with weights, pooling, a head
    lesson_04.check_layer_decay(answer, stages, stages[0].name, lr=0.1, decay=0.4)
    assert said in capsys.readouterr().out


def test_the_rate_of_a_stage_is_the_one_that_training_uses():
    net = tiny_net()
    groups = surgery.param_groups(net, 1.0, layer_decay=0.5)
    ratios = {group["stage"]: group["ratio"] for group in groups}
    stages = surgery.stages(net)
    assert ratios[stages[0].name] / ratios[stages[2].name] == pytest.approx(0.5**2)


GOOD = Recipe.lp_ft(lr=1e-4, head_lr=3e-3, train_bn=False)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (None, "Not written"),
        ("lp_ft", "A str arrived"),
        (GOOD, "Right"),
        (Recipe.scratch(), "forgets"),
        (Recipe.finetune(), "from the first step"),
        (Recipe.partial("stage3"), "more than the head"),
        (Recipe.probe(), "stops after the head"),
        (Recipe.gradual(["head", "stage3"]), "keeps a part frozen"),
        (Recipe.gradual(["head", None], lr=1e-2), "as large as"),
        (replace(GOOD, train_bn=True), "BatchNorm"),
        (
            replace(GOOD, phases=(*GOOD.phases[:1], Phase(from_stage=None, epochs=1, lr=3e-4, head_lr=3e-4))),
            "Right",
        ),
    ],
)
def test_the_recipe(recipe, said, capsys):
    lesson_04.check_recipe(recipe)
    assert said in capsys.readouterr().out


def centred(*features):
    return [np.asarray(c) - np.mean(c, axis=0) for c in features]


def uncentred(x, y):
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def unscaled(x, y):
    x, y = centred(x, y)
    return np.linalg.norm(y.T @ x) ** 2


def unsquared(x, y):
    x, y = centred(x, y)
    return np.linalg.norm(y.T @ x) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (None, "Not answered"),
        (lambda x, y: None, "Not answered"),
        (lambda x, y: x @ x.T, "Expected one number, and got (40, 40)"),
        (metrics.cka, "Right"),
        (lambda x, y: uncentred(*centred(x, y)), "Right"),
        (uncentred, "not centred"),
        (unscaled, "scale"),
        (unsquared, "square"),
        (lambda x, y: np.sqrt(metrics.cka(x, y)), "square root"),
        (lambda x, y: 0.123, "numbers are not"),
    ],
)
def test_cka(function, said, capsys):
    lesson_04.check_cka(function)
    assert said in capsys.readouterr().out
