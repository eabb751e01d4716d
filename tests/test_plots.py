"""Pictures are small, say in words what they show, and draw the data that they were given."""

import io
from itertools import combinations

import numpy as np
import pytest
import torch
from families import few
from PIL import Image

from tlutils import plots
from tlutils.errors import LearnerError
from tlutils.plots.estimates import SHORT, VERDICTS
from tlutils.plots.pixels import contrast

CLASSES = ["functional", "defective"]
RESULTS = {"random": (0.66, 0.62, 0.70), "probe": (0.74, 0.70, 0.78), "majority": (0.5, 0.5, 0.5)}


def estimates(results=RESULTS):
    return plots.intervals(results, title="Title", xlabel="accuracy", alt="Probe beats random.")


def test_a_picture_shows_itself_as_a_small_png_with_its_words_and_without_addresses():
    picture = estimates()
    shown = picture._repr_mimebundle_()
    assert shown["text/plain"] == repr(picture) == "[picture] Probe beats random."
    assert len(shown["image/png"]) < 60_000
    image = Image.open(io.BytesIO(shown["image/png"]))
    assert image.size[0] == 750
    assert 600 <= image.size[0] <= 900


def test_a_picture_of_photographs_is_a_small_jpeg_whatever_is_in_it():
    noise = np.random.default_rng(0).random((200, 200, 3))
    picture = plots.image_rows({"": [noise, noise]}, title="Noise", alt="Two squares of noise.")
    shown = picture._repr_mimebundle_()
    assert set(shown) == {"image/jpeg", "text/plain"}
    assert Image.open(io.BytesIO(shown["image/jpeg"])).format == "JPEG"
    assert len(shown["image/jpeg"]) < 60_000


def test_intervals_are_drawn_at_their_values_best_at_the_top():
    (ax,) = estimates().axes
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [float(dot.get_xdata()[0]) for dot in dots] == [0.5, 0.66, 0.74]
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == plots.NAMES["probe"]
    assert [dot.get_color() for dot in dots][-1] == plots.COLOURS["probe"]


def test_changed_data_change_the_picture():
    assert estimates().png() != estimates({**RESULTS, "probe": (0.9, 0.85, 0.95)}).png()


def test_confusion_writes_each_count_and_shades_by_row():
    picture = plots.confusion([[40, 10], [13, 37]], CLASSES, title="t", alt="a")
    (ax,) = picture.axes
    assert [text.get_text() for text in ax.texts] == ["40", "10", "13", "37"]
    np.testing.assert_allclose(ax.images[0].get_array()[0], [0.8, 0.2])


def draw_lines(x, series, **options):
    return plots.lines(x, series, title="t", alt="a", **options)


def heights(ax):
    """Each name at the right end, and its height as a share of the panel's."""
    return {text.get_text(): text.get_position()[1] for text in ax.texts}


def test_learning_curves_draw_train_dashed_and_val_solid_on_one_scale():
    runs = {
        "probe": {"train": [0.5, 0.7], "val": [0.4, 0.6]},
        "finetune": {"train": [0.6, 0.9, 1.0], "val": [0.5, 0.6, 0.7]},
    }
    left, right = draw_lines(None, runs, sharey=True).axes
    assert [line.get_linestyle() for line in left.lines] == ["--", "-"]
    assert [list(line.get_xdata()) for line in right.lines] == [[0, 1, 2]] * 2  # epoch 0: before any step
    assert left.get_ylim() == right.get_ylim()
    assert {line.get_color() for line in left.lines} == {plots.COLOURS["probe"]}
    assert left.get_title() == plots.NAMES["probe"]


def test_each_line_is_drawn_in_the_order_given_with_its_band_and_named_where_it_ends():
    series = {"probe": np.array([[0.5, 0.4, 0.6], [0.8, 0.7, 0.9]]), "train": [0.9, 0.8]}
    picture = draw_lines([10, 1], series, logx=True)
    (ax,) = picture.axes
    assert ax.xaxis_inverted()
    drawn = {tuple(line.get_ydata()): line.get_linestyle() for line in ax.lines}
    assert drawn == {(0.5, 0.8): "-", (0.9, 0.8): "--"}
    (band,) = ax.collections
    assert {tuple(corner) for corner in band.get_paths()[0].vertices} >= {
        (10, 0.4),
        (1, 0.7),
        (1, 0.9),
        (10, 0.6),
    }
    assert set(heights(ax)) == {plots.NAMES["probe"], "train"}
    assert len(picture.png()) < 40_000


def test_names_of_lines_that_end_together_are_kept_apart_inside_the_picture_the_larger_line_above():
    series = {"a": [0.9, 1.0], "b": [0.1, 1.0], "c": [0.5, 1.0], "d": [0, 0]}
    (ax,) = draw_lines(["stem", "pool"], series).axes
    found = heights(ax)
    assert found["b"] + 0.05 < found["c"]
    assert found["c"] + 0.05 < found["a"] <= 1
    assert found["d"] == pytest.approx(0.05, abs=0.05)


def test_a_name_stands_at_the_height_of_its_line_also_on_a_logarithmic_axis():
    (ax,) = draw_lines([1, 2], {"low": [1, 1], "middle": [1, 10], "high": [1, 100]}, logy="").axes
    assert heights(ax)["middle"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("values", [[0.62, 0.68], [0.3, 2.5], [0.5, 40], [0.05, 400]])
def test_a_logarithmic_axis_has_numbers_whatever_the_range(values):
    (ax,) = draw_lines([1, 2], {"loss": values}, logy="").axes
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    labels = zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
    assert sum(low <= place <= high and bool(label.get_text()) for place, label in labels) >= 2


def test_panels_name_a_line_once_and_one_of_them_may_be_logarithmic():
    values = {"finetune": [0.1, 0.2], "partial": [0.01, 0.3]}
    panels = {"change": values, "similarity": {**values, "random": [0.1, 0.1]}}
    names = {"finetune": "one rate", "partial": "gradual"}
    left, right = draw_lines(["stem", "stage1"], panels, names=names, logy="change").axes
    assert (left.get_yscale(), right.get_yscale()) == ("log", "linear")
    assert [line.get_color() for line in left.lines] == [plots.COLOURS[name] for name in values]
    assert [list(line.get_ydata()) for line in right.lines][:2] == list(values.values())
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["one rate", "gradual"]
    assert [text.get_text() for text in right.get_legend().get_texts()] == [plots.NAMES["random"]]


def test_one_number_is_a_dotted_level_with_its_name():
    panels = {"accuracy": {"": [0.6, 0.8], "majority": 0.5}, "seconds": {"": [1, 2]}}
    accuracy, _ = draw_lines(["head", "stem"], panels).axes
    level = accuracy.lines[-1]
    assert (level.get_linestyle(), list(level.get_ydata())) == (":", [0.5, 0.5])
    assert plots.NAMES["majority"] in heights(accuracy)
    assert accuracy.get_ylim()[0] < 0.5
    (alone,) = draw_lines(["head", "stem"], panels["accuracy"]).axes
    assert plots.NAMES["majority"] in heights(alone)


def test_a_place_on_the_axis_can_be_marked():
    (ax,) = draw_lines(["stem", "pool"], {"random": [0.5, 0.6]}, mark=("pool", "here")).axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["stem", "pool"]
    assert any("here" in text.get_text() for text in ax.texts)
    assert [list(line.get_xdata()) for line in ax.lines if line.get_linestyle() == ":"] == [[1, 1]]


def test_a_line_keeps_its_colour_when_it_comes_out_elsewhere():
    def colours(curves):
        return {text.get_text(): text.get_color() for text in draw_lines([0, 1], curves).axes[0].texts}

    before = colours({"a": [0, 1], "b": [0, 2], "majority": [0, 0]})
    assert before == colours({"a": [0, 2], "b": [0, 1], "majority": [0, 3]})
    assert len(set(before.values())) == 3


def test_a_line_with_too_few_values_is_refused_in_words():
    with pytest.raises(LearnerError, match="'probe' has 1 values, and the x axis has 2 places"):
        draw_lines(["stem", "pool"], {"probe": [0.5]})


def test_right_and_wrong_puts_the_surest_first_and_names_the_truth_of_errors():
    proba = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])
    images = [Image.new("RGB", (8, 8)) for _ in proba]
    picture = plots.right_and_wrong(images, [0, 0, 0], proba, CLASSES, title="t", alt="a", columns=3)
    titles = [ax.get_title() for ax in picture.axes]
    assert titles == [
        "says functional\n90% sure",
        "says functional\n60% sure",
        "",
        "says defective\nis functional",
        "",
        "",
    ]


def test_right_and_wrong_has_one_row_where_nothing_is_wrong():
    images, proba = [Image.new("RGB", (8, 8))] * 2, np.array([[0.6, 0.4], [0.9, 0.1]])
    picture = plots.right_and_wrong(images, [0, 0], proba, CLASSES, title="t", alt="a", columns=2)
    assert [ax.get_ylabel() for ax in picture.axes] == ["surest right", ""]


def luminance(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", list(plots.NAMES))
def test_each_strategy_has_one_colour_that_shows_on_white(name):
    assert luminance(plots.COLOURS[name]) < 0.75
    assert len(set(plots.COLOURS.values())) == len(plots.COLOURS)


def test_no_two_strategies_have_one_name():
    assert len(set(plots.NAMES.values())) == len(plots.NAMES)
    assert len({SHORT.get(name, name) for name in plots.NAMES}) == len(plots.NAMES)


STAGES = ["stem", *(f"stage{k}" for k in range(1, 17)), "pool", "head"]
LONG = ["mitochondria, seen from above", "mitochondria, seen from below", "endoplasmic reticulum, rough"]
SHARES = [k / 20 for k in range(1, 20)]
INTERVAL = (0.5, 0.4, 0.6)


def confuse(classes):
    return plots.confusion(np.eye(len(classes), dtype=int), classes, title="t", alt="a")


def effects(count):
    row = {"effect": 0.1, "low": 0.0, "high": 0.2, "margin": 0.01, "verdict": "holds"}
    return plots.effects([row | {"id": f"claim {k}"} for k in range(count)], xlabel="x", title="t", alt="a")


def panels(columns):
    strategies = dict.fromkeys(plots.NAMES, INTERVAL)
    found = {(row, f"data {k}"): strategies for row in ("little",) for k in range(columns)}
    return plots.panels(found, ylabel="accuracy", title="t", alt="a")


def place():
    words = {"borders": (0.2, 200), "title": "t", "alt": "a"}
    strategies, sets = dict.fromkeys(plots.NAMES, INTERVAL), {"scenes": (0.1, [50, 500])}
    return plots.explorers.matrix_place(sets, (0.1, 80), ("scenes", 50), strategies, [], **words)


CROWDED = {
    "long classes": lambda: confuse(LONG),
    "two long classes": lambda: confuse(LONG[:2]),
    "many classes": lambda: confuse([f"class {k}" for k in range(45)]),
    "changes": lambda: plots.weight_change([SHARES] * 19, cuts=STAGES, stages=STAGES, title="t", alt="a"),
    "line": lambda: draw_lines(STAGES, {"probe": SHARES}),
    "three panels": lambda: draw_lines(STAGES, {panel: {"probe": SHARES} for panel in "abc"}),
    "long places": lambda: draw_lines(LONG, {"probe": SHARES[:3]}),
    "many numbers": lambda: draw_lines([*range(100, 119)], {"probe": SHARES}, logx=True),
    "costs": lambda: plots.stage_costs(STAGES, SHARES, SHARES, title="t", alt="a"),
    "strategies": lambda: plots.intervals(
        dict.fromkeys(plots.NAMES, INTERVAL), title="t", alt="a", xlabel="x"
    ),
    "many panels": lambda: panels(6),
    "claims": lambda: effects(45),
    "cut": lambda: plots.explorers.cut(
        STAGES, {"work": SHARES}, 3, results={}, ylabel="y", title="t", alt="a"
    ),
    "matrix": place,
}


def named_axes(picture):
    """For each axis of a drawn picture the names on it and their boxes, in pixels."""
    picture.canvas.draw()
    for ax in picture.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
            shown = [label for at, label in ticks if low <= at <= high and label.get_text()]
            if shown and ax.get_label() != "<colorbar>":
                yield [label.get_text() for label in shown], [label.get_window_extent() for label in shown]


@pytest.mark.parametrize(
    "kind", few(CROWDED, "long classes", "three panels", "many numbers", "strategies", "matrix")
)
def test_names_on_an_axis_stand_apart_and_inside_the_picture(kind):
    picture = CROWDED[kind]()
    for names, boxes in named_axes(picture):
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2)), names
        for box in boxes:
            assert box.x0 >= 0 <= box.y0, names
            assert box.x1 <= picture.bbox.width, names
            assert box.y1 <= picture.bbox.height, names


def test_names_stay_level_where_they_fit_are_turned_where_not_and_left_out_where_nothing_else_helps():
    def turned(picture):
        picture.canvas.draw()
        labels = picture.axes[0].get_xticklabels()
        return labels[0].get_rotation(), [label.get_text() for label in labels]

    assert turned(confuse(["ant", "bee", "cat", "dog"])) == (0, ["ant", "bee", "cat", "dog"])
    assert turned(confuse(LONG)) == (90, LONG)
    assert turned(draw_lines(STAGES, {"probe": SHARES})) == (90, STAGES)
    angle, names = turned(CROWDED["three panels"]())
    assert angle == 90
    assert names == [name if k % 2 == 0 else "" for k, name in enumerate(STAGES)]


def pixels(picture):
    picture.canvas.draw()
    return np.asarray(picture.canvas.buffer_rgba())[..., :3].astype(int)


def test_rows_of_images_show_what_they_are_given():
    dark, bright = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)
    picture = plots.image_rows(
        {"a": [dark, bright], "b": [bright]}, title="t", alt="two rows", captions=[["x", "y"], ["z"]]
    )
    texts = [t.get_text() for ax in picture.axes for t in (ax.yaxis.label, ax.title)]
    assert {"a", "b", "x", "y", "z"} <= set(texts)
    shown = [ax.images[0].get_array() for ax in picture.axes if ax.images]
    assert [float(s.mean()) for s in shown] == [0.0, 1.0, 1.0]
    assert picture.alt == "two rows"
    headed = plots.image_rows({"a": [dark], "b": [bright]}, title="t", alt="a", captions=[["x"]])
    assert [ax.get_title() for ax in headed.axes] == ["x", ""]  # captions for the first row alone


def test_a_long_title_stays_inside_a_narrow_picture():
    photo = torch.zeros(3, 8, 8)
    picture = plots.image_rows(
        {"": [photo, photo]},
        title="Pixels that the map calls important bring the answer back early",
        alt="a",
        captions=[["one", "two"]],
        width=3.0,
    )
    picture.canvas.draw()
    box = picture._suptitle.get_window_extent()
    assert box.x1 <= 100 * picture.get_figwidth()


def test_maps_are_brought_to_contrast_whatever_their_scale():
    ramp = torch.linspace(-3, 900, 64).view(8, 8)
    scaled = contrast(ramp)
    assert scaled.min() == 0
    assert scaled.max() == 1
    assert contrast(torch.zeros(4, 4)).tolist() == np.zeros((4, 4)).tolist()
    signed = contrast(torch.tensor([[-2.0, 0.0], [1.0, 2.0]]), signed=True)
    assert signed[0, 1] == 0.5
    assert signed[0, 0] < 0.01 < 0.7 < signed[1, 0]


def draws():
    """{function: how it draws a picture}, and where on its axes the picture is."""
    flat, words = np.arange(64.0).reshape(8, 8), {"title": "t", "alt": "a"}
    box = (0, 0, 3, 3)
    return {
        "image_rows": lambda image: plots.image_rows({"": [image]}, **words),
        "overlays": lambda image: plots.overlays(image, {"map": flat}, **words),
        "right_and_wrong": lambda image: plots.right_and_wrong([image], [0], [[1, 0]], CLASSES, **words),
        "channel": lambda image: plots.explorers.channel(image, flat, [image], box=box, **words),
        "covered": lambda image: plots.explorers.covered(image, {"a": 1.0}, {"a": 0.5}, box=box, **words),
        "two_maps": lambda image: plots.explorers.two_maps(image, {"map": flat, "none": None}, **words),
    }


COLOUR = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
DARK = COLOUR // 200  # values of 0 and 1, which are black, not white
SAME = {
    "PIL": Image.fromarray,
    "uint8": lambda array: array,
    "integers": lambda array: array.astype(int),
    "fractions": lambda array: array / 255,
    "tensor": lambda array: torch.tensor(array / 255, dtype=torch.float32).permute(2, 0, 1),
    "uint8 tensor": lambda array: torch.tensor(array).permute(2, 0, 1),
}


@pytest.mark.parametrize("name", few(draws(), "image_rows", "right_and_wrong", "two_maps"))
def test_a_picture_is_drawn_alike_whatever_holds_it(name):
    for array in (COLOUR, DARK):
        for kind, hold in SAME.items():
            images = [image for ax in draws()[name](hold(array)).axes for image in ax.images]
            np.testing.assert_allclose(images[0].get_array(), array / 255, atol=1e-6, err_msg=kind)


@pytest.mark.parametrize("name", draws())
def test_a_grey_picture_is_as_bright_as_it_is(name):
    for image in (Image.new("L", (80, 80), 51), Image.new("P", (80, 80), 0), Image.new("1", (80, 80), 1)):
        drawn = draws()[name](image).axes[0].images[0]
        colour = drawn.to_rgba(drawn.get_array())[40, 40, :3]
        np.testing.assert_allclose(colour, np.asarray(image.convert("RGB"))[40, 40] / 255, atol=0.01)


def test_patches_are_drawn_alike_whatever_holds_them():
    patch = np.full((8, 8, 3), (120, 0, 30), dtype=np.uint8)
    grey = Image.new("L", (8, 8), 51)
    for hold in SAME.values():
        picture = plots.explorers.channel(
            COLOUR, COLOUR[..., 0], [hold(patch), grey], box=(0, 0, 3, 3), title="t", alt="a"
        )
        sheet = 255 * picture.axes[2].images[0].get_array()
        np.testing.assert_allclose(sheet[40, 40], (120, 0, 30), atol=1)
        np.testing.assert_allclose(sheet[40, 140], (51, 51, 51), atol=1)


@pytest.mark.parametrize("name", few(draws(), "image_rows", "covered"))
def test_a_figure_with_a_photograph_shows_itself_as_a_jpeg_and_one_without_as_a_png(name):
    assert "image/jpeg" in draws()[name](COLOUR)._repr_mimebundle_()
    if name != "channel":  # its patches are drawn larger
        assert "image/png" in draws()[name](COLOUR[:8, :8])._repr_mimebundle_()


def test_a_map_over_a_photograph_colours_where_it_is_strong():
    photo, heat = torch.full((3, 16, 16), 0.5), torch.zeros(16, 16)
    heat[:, 8:] = 1
    picture = plots.overlays(photo, {"half": heat}, title="t", alt="a")
    colours = pixels(picture)
    spread = colours.max(2) - colours.min(2)
    half = spread[:, colours.shape[1] // 2 :]
    assert (half[:, half.shape[1] // 2 + 20 :] > 60).any()
    assert len(plots.overlays(photo, {"a": heat, "b": -heat}, title="t", alt="a", signed=True).axes) == 3


def dots(ax):
    return [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]


def test_corners_has_one_panel_per_corner_and_one_dot_per_strategy():
    panels = {
        ("little", "scenes"): {"probe": (0.6, 0.5, 0.7), "finetune": (0.5, 0.4, 0.6)},
        ("lots", "scenes"): {"finetune": (0.8, 0.7, 0.9)},
    }
    picture = plots.panels(panels, ylabel="accuracy", title="Corners", alt="Two corners.")
    above, below = picture.axes
    assert [float(dot.get_ydata()[0]) for dot in dots(above)] == [0.6, 0.5]
    assert [float(dot.get_ydata()[0]) for dot in dots(below)] == [0.8]
    assert dots(above)[1].get_color() == dots(below)[0].get_color() == plots.COLOURS["finetune"]
    assert float(dots(above)[1].get_xdata()[0]) == float(dots(below)[0].get_xdata()[0])
    assert len(picture.png()) < 60_000


@pytest.mark.parametrize("verdict", VERDICTS)
def test_effects_are_coloured_by_verdict(verdict):
    row = {"id": "one", "effect": 0.1, "low": 0.0, "high": 0.2, "margin": 0.01, "verdict": verdict}
    (ax,) = plots.effects([row], xlabel="effect", title="t", alt="a").axes
    (dot,) = dots(ax)
    assert float(dot.get_xdata()[0]) == 0.1
    assert dot.get_color() == plots.COLOURS[VERDICTS[verdict]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one"]


def test_intervals_of_effects_are_shown_whole_unless_they_have_no_end():
    row = {"id": "one", "effect": 0.1, "low": -0.6, "high": 0.8, "margin": 0.01, "verdict": "undecided"}
    endless = row | {"low": -np.inf, "high": np.inf}
    (ax,) = plots.effects([row, endless], xlabel="effect", title="t", alt="a").axes
    assert 0.8 < ax.get_xlim()[1] < 1


def test_shares_are_drawn_stem_at_the_top():
    left, right = plots.stage_costs(["stem", "head"], [0.25, 0.75], [0.9, 0.1], title="t", alt="a").axes
    assert [bar.get_width() for bar in left.patches] == [0.25, 0.75]
    assert [bar.get_width() for bar in right.patches] == [0.9, 0.1]
    assert left.yaxis_inverted()


def test_weight_change_says_0_where_nothing_moved_and_nowhere_else():
    picture = plots.weight_change(
        [[0, 0.1], [0.01, 1]], cuts=["b", "a"], stages=["a", "b"], title="t", alt="a"
    )
    ax = picture.axes[0]
    assert [(text.get_position(), text.get_text()) for text in ax.texts] == [((0, 0), "0")]
    assert ax.images[0].get_array().mask.tolist() == [[True, False], [False, False]]
