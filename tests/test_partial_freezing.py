"""What lesson 03 leans on: its pictures draw the data they get, its checks name the mistake they see."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tlutils import plots, surgery
from tlutils.checks import lesson_03


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.two(self.one(x)).mean((2, 3)))


def frozen_by_flag(part):
    part.requires_grad_(False)


def frozen_once(part):
    part.requires_grad_(False).eval()


def statistics_only(part):
    part.train = lambda mode=True: part
    part.eval()
    for module in part.modules():
        module.training = False


def frozen(part):
    part.requires_grad_(False)
    statistics_only(part)


@pytest.mark.parametrize(
    ("freeze", "said"),
    [
        (lambda part: None, "Nothing is frozen"),
        (frozen_by_flag, "statistics drift"),
        (frozen_once, "undoes eval"),
        (statistics_only, "what about requires_grad"),
        (frozen, "Right"),
    ],
)
def test_a_freezing_function_is_judged_by_its_effect(freeze, said, capsys):
    lesson_03.check_freeze(freeze)
    assert said in capsys.readouterr().out


def test_the_check_of_freezing_leaves_the_generators_alone():
    state = torch.get_rng_state()
    lesson_03.check_freeze(frozen)
    assert torch.equal(state, torch.get_rng_state())


def test_counting_what_trains_names_the_usual_slips(capsys):
    stages = surgery.stages(Net())
    sizes = [s.num_params for s in stages]
    cut, k = stages.names[1], 1
    answers = {
        None: "Not answered",
        sum(sizes[k:]): "Right",
        sum(sizes[:k]): "what is frozen",
        sum(sizes[k + 1 :]): "froze the stage itself",
        sum(sizes): "whole network",
        -1: "Not yet",
    }
    for answer, said in answers.items():
        lesson_03.check_trainable_parameters(answer, stages, cut)
        assert said in capsys.readouterr().out


def test_an_optimizer_is_judged_by_what_it_moves_and_what_it_remembers(capsys):
    model = Net()
    surgery.freeze_to(model, "head")
    optimizer = torch.optim.AdamW(surgery.param_groups(model, 1e-3))
    F.cross_entropy(model.train()(torch.rand(4, 3, 32, 32)), torch.arange(4) % 3).backward()
    optimizer.step()
    surgery.freeze_to(model, surgery.stages(model).names[0])
    lesson_03.check_optimizer(model, optimizer)
    assert "never heard of" in capsys.readouterr().out
    lesson_03.check_optimizer(model, torch.optim.AdamW(model.parameters()))
    assert "this optimizer is new" in capsys.readouterr().out
    surgery.add_unfrozen(optimizer, model)
    lesson_03.check_optimizer(model, optimizer)
    assert "Right" in capsys.readouterr().out
    optimizer.param_groups.append(dict(optimizer.param_groups[0]))
    lesson_03.check_optimizer(model, optimizer)
    assert "twice" in capsys.readouterr().out


def test_shares_are_drawn_stem_at_the_top():
    left, right = plots.shares(["stem", "head"], [0.25, 0.75], [0.9, 0.1], title="t", alt="a").axes
    assert [bar.get_width() for bar in left.patches] == [0.25, 0.75]
    assert [bar.get_width() for bar in right.patches] == [0.9, 0.1]
    assert left.yaxis_inverted()


def test_movement_says_0_where_nothing_moved_and_nowhere_else():
    picture = plots.movement([[0, 0.1], [0.01, 1]], cuts=["b", "a"], stages=["a", "b"], title="t", alt="a")
    ax = picture.axes[0]
    assert [(text.get_position(), text.get_text()) for text in ax.texts] == [((0, 0), "0")]
    assert ax.images[0].get_array().mask.tolist() == [[True, False], [False, False]]


def test_lines_end_with_their_name():
    series = {"partial": [0.0, 0.0], "finetune": [0.1, 0.3]}
    names = {"partial": "still", "finetune": "moving"}
    (ax,) = plots.lines(series, x="x", y="y", names=names, title="t", alt="a").axes
    assert {text.get_text().strip(): text.get_position() for text in ax.texts} == {
        "still": (2, 0.0),
        "moving": (2, 0.3),
    }


def test_by_cut_draws_means_two_standard_errors_and_controls():
    values = np.array([[0.6, 0.8], [0.7, 0.7]])
    panels = {"accuracy": {"": values}, "seconds": {"whole": [1.0, 2.0], "kept": [0.5, 1.5]}}
    picture = plots.by_cut(panels, cuts=["head", "stem"], controls={"majority": 0.5}, title="t", alt="a")
    accuracy, seconds = picture.axes
    line = accuracy.containers[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [0.7, 0.7])
    low, high = accuracy.containers[0].lines[2][0].get_segments()[0][:, 1]
    # The standard deviation of 0.6 and 0.8 is 0.1 * sqrt(2); two standard errors are 0.2.
    assert (low, high) == (pytest.approx(0.5), pytest.approx(0.9))
    assert plots.NAMES["majority"] in [text.get_text() for text in accuracy.texts]
    assert seconds.get_ylim()[0] == 0
