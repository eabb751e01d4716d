"""Explorers without a browser: controls moved in Python, pictures and words looked at, refusals in words."""

import base64
import functools
import inspect
import io
import threading

import nbformat
import numpy as np
import pytest
import torch
from families import few
from ipywidgets import IntSlider
from PIL import Image
from tiny import tiny_data, tiny_net
from torch import nn
from widget_toys import MADE, RESULTS, named_net, photos, table

from tlutils import explain, lessons, models, plots, runtime, surgery, train, widgets
from tlutils.errors import LearnerError
from tlutils.widgets.base import Panel

VIEW = "application/vnd.jupyter.widget-view+json"


each_widget = pytest.mark.parametrize("name", MADE)


@functools.cache
def unmoved(name):
    """An explorer as it is first shown, for tests that only look."""
    return MADE[name]()


def moved(explorer, **values):
    """Set controls, one by one; whether the picture changed; the words now."""
    before = explorer.screen.picture
    for name, value in values.items():
        explorer.controls[name].value = value
    return explorer.screen.picture != before, explorer.screen.message


@each_widget
def test_where_no_kernel_runs_a_small_picture_stands_with_its_words(name):
    data, metadata = unmoved(name)._repr_mimebundle_()
    ((kind, told),) = metadata.items()
    assert set(data) == {VIEW, "text/plain", kind}
    shown = Image.open(io.BytesIO(data[kind]))
    assert Image.MIME[shown.format] == kind
    assert min(shown.size) >= 200
    assert len(data[kind]) <= 60_000
    assert len(told["alt"].split()) >= 8


@pytest.mark.parametrize("name", few(MADE, "explore_occlusion", "explore_deepdream", "explore_freezing"))
def test_what_a_committed_notebook_holds_is_the_same_on_each_run(name):
    one, other = (panel._repr_mimebundle_() for panel in (unmoved(name), MADE[name]()))
    assert one[0].pop(VIEW) != other[0].pop(VIEW)  # ids of widgets never are
    assert one == other
    assert not any(letter.isdigit() for letter in one[0]["text/plain"])


@each_widget
def test_every_control_has_a_name_that_a_screen_reader_says(name):
    panel = unmoved(name)
    assert isinstance(panel, Panel)
    for control in panel.controls.values():
        assert control.description or control.tooltip, control


def test_a_notebook_is_committed_without_live_widgets_and_exports_with_the_picture(tmp_path):
    data, metadata = MADE["explore_freezing"]()._repr_mimebundle_()
    data["image/png"] = base64.b64encode(data["image/png"]).decode()
    output = nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=1)
    cell = nbformat.v4.new_code_cell("w", outputs=[output], execution_count=1)
    notebook = lessons.clean(nbformat.v4.new_notebook(cells=[cell]))
    assert set(notebook.cells[0].outputs[0].data) == {"image/png", "text/plain"}
    page = lessons.write_html(notebook, tmp_path / "page.html").read_text()
    assert data["image/png"] in page
    assert metadata["image/png"]["alt"].split(":")[0] in page


def test_channels_change_with_stage_channel_and_picture():
    explorer = widgets.explore_channels(tiny_net(), photos())
    stages = list(explorer.controls["at"].options)
    assert stages == ["stem", "stage1", "stage2"]
    assert (explorer.controls["at"].value, explorer.controls["channel"].max) == ("stage1", 7)
    for values in ({"channel": 3}, {"image": 2}, {"at": "stem"}):
        changed, words = moved(explorer, **values)
        assert changed, values
    assert words.startswith("stem, channel 3 of 6, picture 2: the activation map has 16×16 places.")
    assert explorer.controls["channel"].max == 5


def test_the_channel_follows_when_a_stage_has_fewer():
    explorer = widgets.explore_channels(tiny_net(), photos(), at="stage2", channel=7)
    assert moved(explorer, at="stem")[1].startswith("stem, channel 5 of 6")


def test_best_patches_on_the_screen_are_those_of_the_library():
    model, x = tiny_net(), photos(9)
    explorer = widgets.explore_channels(model, x, at="stem", channel=2, count=4)
    best = explain.top_patches(model, [x], at="stem", channels=[2], count=4)[2]
    assert explorer.screen.message.endswith(
        f"best patches come from pictures {', '.join(map(str, sorted(patch.image for patch in best)))}."
    )


def test_the_occluder_covers_where_it_is_told_and_says_what_that_does():
    model, x = named_net(), photos()[0]
    explorer = widgets.explore_occlusion(model, x, 1, window=8)
    changed, words = moved(explorer, row=4, column=28)
    hidden = x.clone()
    hidden[:, :8, 24:] = 0
    with torch.no_grad():
        now = model(hidden[None])[0, 1].item()
    assert changed
    assert words.startswith("A square of 8×8 pixels around row 4, column 28 is covered. The score of green")
    assert f"to {now:.1f}." in words
    shown = np.asarray(explorer.picture.axes[0].images[0].get_array())
    grey = (shown == 0.5).all(2)  # the mean colour
    assert grey[:8, 24:].all()
    assert grey.sum() == 64
    assert moved(explorer, window=20)[0]


@pytest.mark.parametrize(
    ("explorer", "function", "own"),
    [
        (widgets.explore_occlusion, explain.occlusion, set()),
        (widgets.explore_deepdream, explain.deepdream, {"dream"}),
        (widgets.explore_channels, explain.top_patches, {"channel"}),
    ],
)
def test_an_explorer_calls_an_option_as_the_function_that_it_runs_does(explorer, function, own):
    options = {p.name for p in inspect.signature(explorer).parameters.values() if p.kind == p.KEYWORD_ONLY}
    assert options - own <= set(inspect.signature(function).parameters)


def test_a_control_is_labelled_by_the_option_that_it_changes():
    for name in ("explore_occlusion", "explore_channels", "explore_attributions"):
        controls, options = unmoved(name).controls, inspect.signature(getattr(widgets, name)).parameters
        shared = [control for control in controls if control in options]
        assert shared
        assert [controls[control].description for control in shared] == shared


def test_a_pointer_on_the_photograph_moves_the_occluder_and_one_beside_it_does_not():
    explorer = widgets.explore_occlusion(named_net(), photos()[0], window=8)
    photo = explorer.picture.axes[0].get_position()  # shares of the picture, from below
    right = photo.x0 + photo.width * 0.75
    down = 1 - (photo.y0 + photo.height * 0.75)
    before = explorer.screen.picture
    explorer.screen.place = [right, down]
    assert (explorer.controls["row"].value, explorer.controls["column"].value) == (8, 24)
    assert "around row 8, column 24" in explorer.screen.message
    assert explorer.screen.picture != before
    explorer.screen.place = [0.99, 0.5]
    assert "around row 8, column 24" in explorer.screen.message


def test_two_attributions_are_chosen_and_compared():
    explorer = widgets.explore_attributions(tiny_net(), photos()[0], 2)
    assert "Why “class 2”? saliency is strongest" in explorer.screen.message
    assert "rank correlation" in explorer.screen.message
    changed, words = moved(explorer, left="guided_backprop")
    assert changed
    assert "guided backprop is strongest" in words
    assert moved(explorer, right="guided_backprop")[0]  # the same on both sides is no error


def test_a_method_that_has_no_meaning_on_a_model_says_so_and_the_other_is_shown():
    smooth = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    explorer = widgets.explore_attributions(
        models.describe(smooth.eval(), input_size=(3, 32, 32)), photos()[0]
    )
    words = moved(explorer, right="guided_backprop")[1]
    assert "saliency is strongest" in words
    assert "has no ReLU" in words


def test_where_to_cut_shows_what_trains_what_it_costs_and_what_was_measured():
    model = tiny_net()
    stages = surgery.stages(model)
    explorer = widgets.explore_freezing(model, results=RESULTS, measure="accuracy")
    assert [name for name, _ in explorer.controls["cut"].options] == ["stem", "stage1", "stage2", "head"]
    trains = stages["head"].num_params
    total = sum(stage.num_params for stage in stages)
    words = explorer.screen.message
    assert f"{trains:,} of {total:,} parameters train" in words
    assert "Measured there: accuracy 0.700, from 0.650 to 0.750." in words
    changed, words = moved(explorer, cut=stages.names.index("stage1"))
    work = 3 * sum(stage.macs for stage in stages[1:])
    assert changed
    assert f"A step costs {work:,} multiply-adds" in words
    assert "Not measured there; measured: head, stem." in words
    words = moved(explorer, cut=0)[1]
    assert "nothing is frozen" in words
    assert "100% of training everything" in words
    assert "easured" not in widgets.explore_freezing(model).screen.message
    assert surgery.frozen_to(model) is None  # only looked at


def test_rates_show_their_curves_and_rank_and_survive_a_breakdown():
    broken = table(0.1)
    broken.loc[1:, ["train_loss", "val_loss"]] = np.nan
    explorer = widgets.explore_learning_rates({1e-1: broken, 1e-4: table(0.4), 1e-3: table(0.8)})
    assert explorer.screen.message.startswith(
        "Rate 0.001, 3 epochs: accuracy in training from 0.267 to 0.800"
    )
    assert "number 1 of 3 rates" in explorer.screen.message
    changed, words = moved(explorer, rate=0.1)
    assert changed
    assert "number 3 of 3" in words
    changed, words = moved(explorer, quantity="loss")
    assert changed
    assert "training broke down" in words


def test_rates_open_at_the_one_that_the_loss_on_val_chooses():
    sure, right = table(0.8), table(0.7)
    sure["val_loss"] += 1  # more often right, and badly so where it is wrong
    explorer = widgets.explore_learning_rates({1e-3: sure, 1e-4: right})
    assert explorer.controls["rate"].value == 1e-4
    assert "Rate 0.0001" in explorer.screen.message
    assert "By its last loss on val it is number 1 of 2" in explorer.screen.message


def test_rates_may_start_before_any_step():
    start = {"train_accuracy": 0.11, "val_accuracy": 0.12, "train_loss": 2.0, "val_loss": 2.1}
    explorer = widgets.explore_learning_rates({1e-3: table(0.8)}, start=start)
    assert explorer.screen.message.startswith("Rate 0.001, 3 epochs: accuracy in training from 0.110")
    assert explorer.draw(rate=1e-3, quantity="accuracy").axes[0].lines[0].get_xdata()[0] == 0
    with pytest.raises(LearnerError, match="start has no val_loss"):
        widgets.explore_learning_rates({1e-3: table(0.8)}, start={k: start[k] for k in list(start)[:3]})


def test_rates_take_what_training_returns():
    recipe = train.Recipe.probe(epochs=2, batch_size=8)
    history = train.fit(tiny_net(), tiny_data(), recipe)
    words = widgets.explore_learning_rates({1e-3: history}).screen.message
    assert f"{history.rows[-1]['val_accuracy']:.3f}" in words


def test_a_dream_changes_the_picture_step_by_step_and_ends_by_itself():
    panel = widgets.explore_deepdream(tiny_net(), photos()[0], at="stage1", octaves=1, steps=5)
    before, seen = panel.screen.picture, []
    panel.bar.observe(lambda change: seen.append(change.new), "value")
    panel.start()
    panel.wait()
    assert panel.screen.picture != before
    assert seen[-1] == 5
    assert panel.screen.message.startswith("Done after 5 of 5 steps: the activation of stage1 went from")
    assert (panel.button.value, panel.button.description) == (False, "Start")


def endless(model=None):
    panel = widgets.explore_deepdream(model or tiny_net(), photos()[0], octaves=1, steps=100_000)
    begun = threading.Event()
    panel.bar.observe(lambda change: begun.set(), "value")
    panel.start()
    assert begun.wait(30)
    return panel


def test_stop_ends_a_dream_after_the_step_in_hand_and_leaves_nothing_behind():
    model = tiny_net()
    model.train()
    state, modes = torch.get_rng_state(), [module.training for module in model.modules()]
    panel = endless(model)
    assert panel.button.value is True
    assert [module.training for module in model.modules()] == modes  # also while it runs
    late = []
    panel.bar.observe(lambda change: late.append(change.new) if panel._halt.is_set() else None, "value")
    panel.button.value = False  # the click: it only asks, so the kernel is free at once
    panel.wait()
    assert panel.screen.message.startswith("Stopped after ")
    assert len(late) <= 1
    assert panel.button.description == "Start"
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert not any(hook for module in model.modules() for hook in module._forward_hooks)
    assert "deepdream" not in [thread.name for thread in threading.enumerate()]
    panel.start()  # and again
    panel.stop()
    assert panel.screen.message.startswith("Stopped after ")


def test_a_dream_looks_the_same_as_the_librarys():
    model, x = tiny_net(), photos()[0]
    panel = widgets.explore_deepdream(model, x, at="stage1", octaves=1, steps=3, seed=4)
    panel.start()
    panel.wait()
    result = explain.deepdream(model, x[None], at="stage1", octaves=1, steps=3, seed=4)
    shown = widgets.explore_deepdream(model, x, at="stage1", octaves=1, dream=result)
    assert panel.screen.picture == shown.screen.picture
    first, last = result.curve[0, 0].item(), result.curve[-1, 0].item()
    assert f"went from {first:.2g} to {last:.2g}." in panel.screen.message


def test_running_a_cell_stops_a_dream(monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    monkeypatch.setattr("tlutils.widgets.dreaming.get_ipython", lambda: shell)
    registered = list(shell.events.callbacks["pre_run_cell"])
    panel = endless()
    assert len(shell.events.callbacks["pre_run_cell"]) == len(registered) + 1
    shell.events.trigger("pre_run_cell", None)
    assert not panel._worker.is_alive()
    assert shell.events.callbacks["pre_run_cell"] == registered


def test_a_dream_that_fails_says_so_where_the_picture_is(monkeypatch):
    panel = widgets.explore_deepdream(tiny_net(), photos()[0], octaves=1, steps=2)

    def broken(*args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(explain, "deepdream", broken)
    panel.start()
    panel.wait()
    assert panel.screen.message == "The dream broke off. RuntimeError: out of memory"
    assert panel.button.value is False


def test_what_a_picture_refuses_is_said_in_words_and_the_next_move_works():
    def draw(number):
        if number == 2:
            raise LearnerError("Two is no number to draw. Use another.")
        picture, axes = plots.figure(title="", alt=f"the number {number}")
        axes[0, 0].bar([0], [number])
        return picture

    explorer = widgets.Explorer("Numbers", draw, note="a number", number=IntSlider(1, 1, 3))
    assert moved(explorer, number=2) == (False, "Two is no number to draw. Use another.")
    assert moved(explorer, number=1)[1] == "the number 1"
    assert moved(explorer, number=3) == (True, "the number 3")
    with pytest.raises(LearnerError, match="Two is no number"):
        widgets.Explorer("Numbers", draw, note="a number", number=IntSlider(2, 1, 3))


def token_net():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(3 * 32 * 32, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.embed(x.flatten(1)).relu())

    return models.describe(Tokens().eval(), input_size=(3, 32, 32))


ONE = photos()[0]
REFUSED = {
    "no such stage": (lambda: widgets.explore_channels(tiny_net(), photos(), at="stem1"), "'stem'"),
    "no such channel": (lambda: widgets.explore_channels(tiny_net(), photos(), channel=8), "0 to 7"),
    "no maps anywhere": (
        lambda: widgets.explore_channels(token_net(), photos()),
        "no stage with feature maps",
    ),
    "no batch": (lambda: widgets.explore_channels(tiny_net(), "cat.jpg"), "str"),
    "NaN": (lambda: widgets.explore_occlusion(tiny_net(), ONE * torch.nan), "NaN"),
    "several images": (lambda: widgets.explore_occlusion(tiny_net(), photos()), "3 images"),
    "no such class": (lambda: widgets.explore_occlusion(tiny_net(), ONE, 3), "3 classes"),
    "too large a square": (lambda: widgets.explore_occlusion(tiny_net(), ONE, window=33), "1 to 32"),
    "no such attribution": (
        lambda: widgets.explore_attributions(tiny_net(), ONE, left="gradcam"),
        "'grad_cam'",
    ),
    "too small to dream": (lambda: widgets.explore_deepdream(tiny_net(), ONE, octaves=3), "fewer octaves"),
    "no dream at all": (lambda: widgets.explore_deepdream(tiny_net(), ONE, octaves=1, steps=0), "steps=0"),
    "a dream nowhere": (lambda: widgets.explore_deepdream(tiny_net(), ONE, at="stage11"), "'stage1'"),
    "no such cut": (lambda: widgets.explore_freezing(tiny_net(), results={"hed": (1, 1, 1)}), "'head'"),
    "no interval": (lambda: widgets.explore_freezing(tiny_net(), results={"head": 0.7}), "two ends"),
    "upside down": (lambda: widgets.explore_freezing(tiny_net(), results={"head": (0.7, 0.8, 0.9)}), "low ≤"),
    "a cut without weights": (
        lambda: widgets.explore_freezing(tiny_net(), results={"pool": (0.7, 0.6, 0.8)}),
        "next stage",
    ),
    "no histories": (lambda: widgets.explore_learning_rates({}), "empty"),
    "no rate": (lambda: widgets.explore_learning_rates({"small": table(0.5)}), "positive numbers"),
    "no history": (lambda: widgets.explore_learning_rates({0.1: [0.1, 0.2]}), "train_accuracy"),
    "no epochs": (lambda: widgets.explore_learning_rates({0.1: table(0.5).iloc[:0]}), "no epochs"),
}


@pytest.mark.parametrize(("make", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_refused_in_words(make, says):
    with pytest.raises(LearnerError, match=says):
        make()


def test_explorers_leave_no_progress_bars_and_threads_are_told_apart(monkeypatch, capfd):
    monkeypatch.setattr(runtime, "interactive", lambda: True)
    with runtime.silent():
        assert list(runtime.progress(range(2), desc="hidden")) == [0, 1]
        other = threading.Thread(target=lambda: list(runtime.progress(range(2), desc="shown")))
        other.start()
        other.join()
    said = capfd.readouterr().err
    assert "hidden" not in said
    assert "shown" in said
    MADE["explore_channels"]()
    assert capfd.readouterr().err == ""
