"""Images by gradient steps: objectives improve, pictures stay in [0, 1], and the model is not changed."""

import pytest
import torch
from explain_toys import Net, images, unchanged
from families import few

from tlutils import explain, models
from tlutils.errors import LearnerError


def toy(**options):
    """A small network that says how its images are normalised, unlike any default."""
    return models.describe(
        Net("inplace", **options), input_size=(3, 32, 32), mean=(0.3, 0.4, 0.6), std=(0.1, 0.2, 0.4)
    )


def photo(model, count=1, side=32, seed=3):
    pictures = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 0.6 + 0.2
    return pictures, explain.normalize(model, pictures)


@pytest.fixture(scope="module")
def cat(lite0):
    from PIL import Image
    from skimage.data import chelsea
    from torchvision.transforms.functional import to_tensor

    picture = Image.fromarray(chelsea()).crop((76, 0, 376, 300)).resize((96, 96))
    return explain.normalize(lite0, to_tensor(picture)[None])


# Every synthesis on the toy: name -> (call with these steps, whether its curve rises)
def every(model, x, steps=12, **options):
    return {
        "class_visualization": lambda: explain.class_visualization(
            model, [1, 2], steps=steps, size=32, **options
        ),
        "maximise_activation": lambda: explain.maximise_activation(
            model, "conv2", [0, 5], steps=steps, **options
        ),
        "whole stage": lambda: explain.maximise_activation(model, "conv2", steps=steps, **options),
        "deepdream": lambda: explain.deepdream(model, x, at="conv1", octaves=1, steps=steps, **options),
        "invert": lambda: explain.feature_inversion(model, x, at="conv1", steps=steps, **options),
        "texture": lambda: explain.texture_synthesis(model, x, at=["conv1", "conv2"], steps=steps, **options),
        "style_transfer": lambda: explain.style_transfer(
            model,
            x,
            x.flip(2) * 0.5,
            content_at="conv2",
            style_at=["conv1"],
            steps=steps,
            **without_seed(options),
        ),
        "fooling": lambda: explain.fooling_images(
            model, x, 2, steps=steps, lr=0.001, **without_seed(options)
        ),
    }


def without_seed(options):
    return {key: value for key, value in options.items() if key != "seed"}


NAMES = list(every(None, images()))
RISING = {"class_visualization", "maximise_activation", "whole stage", "deepdream", "fooling"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "recording", few([torch.enable_grad, torch.no_grad, torch.inference_mode], torch.inference_mode)
)
def test_the_objective_improves_and_the_model_stays_as_it_was(name, recording):
    model = toy(dropout=0.4)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.train()
    model.bn1.eval()
    _, x = photo(model)
    with unchanged(model), recording():
        result = every(model, x)[name]()
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert not result.images.requires_grad
    assert result.curve.shape[1] == len(result.images)
    first, last = result.curve[0], result.curve[-1]
    assert (last > first).all() if name in RISING else (last < first).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_images(name):
    model = toy().eval()
    _, x = photo(model)
    a, b = every(model, x, steps=3, seed=7)[name](), every(model, x, steps=3, seed=7)[name]()
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.curve, b.curve)
    if name not in ("style_transfer", "fooling"):  # nothing is drawn there
        assert not torch.equal(a.images, every(model, x, steps=3, seed=8)[name]().images)


def test_no_steps_give_the_start_image_with_the_models_own_brightness():
    model = toy().eval()
    pictures, x = photo(model, 2)
    found = [
        explain.class_visualization(model, [0, 1], start=x, steps=0),
        explain.maximise_activation(model, "conv1", [0, 1], start=x, steps=0),
        explain.deepdream(model, x, at="conv1", octaves=1, steps=0),
        explain.style_transfer(model, x, x, content_at="conv1", style_at=["conv1"], steps=0),
        explain.fooling_images(model, x, 0, steps=0),
    ]
    for result in found:
        torch.testing.assert_close(result.images, pictures, rtol=0, atol=1e-5)
        assert result.curve.shape == (0, 2)


def test_the_model_reads_normalised_images():
    model = toy().eval()
    _, x = photo(model, 2)
    with torch.no_grad():
        scores, conv1 = model(x), model.conv1(x)
    result = explain.class_visualization(model, [3, 0], start=x, steps=1, jitter=0)
    torch.testing.assert_close(result.curve[0], scores[[0, 1], [3, 0]], rtol=1e-4, atol=1e-4)
    result = explain.maximise_activation(model, "conv1", [2, 4], start=x, steps=1, jitter=0)
    torch.testing.assert_close(result.curve[0], conv1.mean((2, 3))[[0, 1], [2, 4]], rtol=1e-4, atol=1e-4)
    result = explain.maximise_activation(model, "conv1", [2, 4], start=x, steps=1, jitter=0, unit="centre")
    torch.testing.assert_close(result.curve[0], conv1[[0, 1], [2, 4], 16, 16], rtol=1e-4, atol=1e-4)
    result = explain.deepdream(model, x, at="conv1", octaves=1, steps=1, jitter=0)
    torch.testing.assert_close(result.curve[0], conv1.square().mean((1, 2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_on_step_sees_each_step_and_can_stop(name):
    model = toy().eval()
    _, x = photo(model)
    seen = []

    def look(step, pictures, values):
        assert pictures.min() >= 0
        assert pictures.max() <= 1
        seen.append((step, values.tolist()))
        return values.isnan().any() if step == 2 else None  # a tensor that says False

    result = every(model, x, on_step=look)[name]()
    assert [step for step, _ in seen] == [0, 1, 2]
    assert [values for _, values in seen] == result.curve.tolist()


def test_a_dream_is_stopped_in_any_octave_and_keeps_its_size():
    model = toy().eval()
    _, x = photo(model, side=64)
    sizes = []

    def look(step, pictures, values):
        sizes.append(tuple(pictures.shape[2:]))
        return step < 4

    result = explain.deepdream(model, x, at="conv2", octaves=2, octave_scale=2.0, steps=3, on_step=look)
    assert sizes == [(32, 32)] * 3 + [(64, 64)] * 2
    assert result.images.shape == (1, 3, 64, 64)
    assert len(result.curve) == 5


def test_fooling_hardly_changes_the_picture_of_a_real_network(lite0, cat):
    result = explain.fooling_images(lite0, cat, 504)  # a coffee mug
    assert result.fooled.all()
    assert (result.images - explain.denormalize(lite0, cat)).square().mean().sqrt() < 0.05


def test_fooling_changes_the_class_and_stops_there():
    model = toy().eval()
    pictures, x = photo(model, 4)
    with torch.no_grad():
        target = model(x).argsort(1)[:, -2]  # the runner-up of each
    result = explain.fooling_images(model, x, target, steps=200, lr=0.002)
    assert result.fooled.all()
    assert torch.equal(model(explain.normalize(model, result.images)).argmax(1), target)
    torch.testing.assert_close(
        result.difference, (0.5 + 10 * (result.images - pictures)).clamp(0, 1), atol=1e-4, rtol=0
    )
    # One step fewer would not have done: each image stopped as soon as it was fooled.
    for i in range(4):
        steps = int(result.steps[i])
        shorter = explain.fooling_images(
            model, x[i : i + 1], int(target[i]), steps=max(0, steps - 1), lr=0.002
        )
        assert steps == 0 or not shorter.fooled.any()


def test_an_image_that_is_already_called_the_target_is_left_alone():
    model = toy().eval()
    pictures, x = photo(model)
    result = explain.fooling_images(model, x, int(model(x).argmax()))
    assert result.fooled.all()
    assert result.steps.tolist() == [0]
    torch.testing.assert_close(result.images, pictures, rtol=0, atol=1e-5)


def test_a_class_image_convinces_the_real_network(lite0):
    result = explain.class_visualization(lite0, 281, size=96, steps=25)  # a tabby cat
    assert result.curve[-1] > result.curve[0] + 10
    with torch.no_grad():
        assert lite0(explain.normalize(lite0, result.images)).argmax(1).tolist() == [281]


def test_inversion_falls_below_a_bound_at_early_stages_and_keeps_less_of_late_ones(lite0, cat):
    pixels, missed = {}, {}
    original = explain.denormalize(lite0, cat)
    for at in ("stem", "stage5"):
        result = explain.feature_inversion(lite0, cat, at=at, steps=40)
        missed[at] = float(result.curve[-1])
        pixels[at] = float((result.images - original).square().mean())
    assert missed["stem"] < 0.05
    assert missed["stage5"] < 0.6
    assert pixels["stem"] < pixels["stage5"]


def test_a_texture_has_the_gram_matrices_and_not_the_places(lite0, cat):
    result = explain.texture_synthesis(lite0, cat, at=["stem", "stage1"], steps=40)
    assert result.curve[-1] < 0.15 * result.curve[0]
    assert (result.images - explain.denormalize(lite0, cat)).square().mean() > 0.005
    larger = explain.texture_synthesis(lite0, cat, at=["stem"], size=64, steps=1)
    assert larger.images.shape == (1, 3, 64, 64)


def test_a_texture_has_the_colours_of_its_example_after_few_steps(lite0):
    red = torch.tensor([0.8, 0.3, 0.1])[:, None, None]  # in bands: dark and bright, all of one colour
    example = (red * torch.linspace(0.3, 1, 64)[None, :, None]).expand(1, 3, 64, 64)
    result = explain.texture_synthesis(lite0, explain.normalize(lite0, example), steps=8)
    assert (result.images.mean((2, 3)) - example.mean((2, 3))).abs().max() < 0.08


def test_style_weighs_against_content(lite0, cat):
    style = cat.flip(1).roll(40, 3)
    faithful, bold = (
        explain.style_transfer(
            lite0, cat, style, content_at="stage2", style_at=["stem"], style_weight=w, steps=10
        )
        for w in (0.01, 10.0)
    )
    original = explain.denormalize(lite0, cat)
    assert (faithful.images - original).square().mean() < (bold.images - original).square().mean()


def test_tokens_and_channels_last_stages_have_channels_too():
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = timm.create_model("vit_tiny_patch16_224", num_classes=4, depth=2, img_size=64).eval()
    result = explain.maximise_activation(vit, "blocks.0", [0, 191], steps=3)
    assert (result.curve[-1] > result.curve[0]).all()
    with pytest.raises(LearnerError, match="192 channels"):
        explain.maximise_activation(vit, "blocks.0", 192)
    with pytest.raises(LearnerError, match="octaves=1"):
        explain.deepdream(vit, images(1, 64), at="blocks.0")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, x: explain.class_visualization(m, 5), "no class 5"),
        (lambda m, x: explain.class_visualization(m, 0, steps=-1), "steps=-1"),
        (lambda m, x: explain.class_visualization(m, 0, lr=0), "lr=0"),
        (lambda m, x: explain.class_visualization(m, 0, size=4), "8 pixels"),
        (lambda m, x: explain.class_visualization(m, [0, 1], start=x), "2 classes for 1 images"),
        (lambda m, x: explain.class_visualization(m, "cat"), "whole number"),
        (lambda m, x: explain.maximise_activation(m, "conv1", 1.5), "whole number"),
        (lambda m, x: explain.maximise_activation(m, "conv9", 0), "conv"),
        (lambda m, x: explain.maximise_activation(m, "conv1", 8), "8 channels"),
        (lambda m, x: explain.maximise_activation(m, "conv1", 0, unit="corner"), "corner"),
        (lambda m, x: explain.fooling_images(m, x, 9), "no class 9"),
        (lambda m, x: explain.deepdream(m, x, at="conv1", octaves=0), "octaves=0"),
        (lambda m, x: explain.deepdream(m, x, at="conv1", octaves=9), "Fewer|fewer"),
        (lambda m, x: explain.deepdream(m, x, at="conv1", channel=99, octaves=1), "8 channels"),
        (lambda m, x: explain.feature_inversion(m, x * float("nan"), at="conv1"), "NaN"),
        (lambda m, x: explain.feature_inversion(m, x, at="stage77"), "stage77"),
        (lambda m, x: explain.texture_synthesis(m, x, at=[]), "list of names"),
        (lambda m, x: explain.style_transfer(m, x, x.repeat(3, 1, 1, 1)), "3 styles"),
    ],
)
def test_what_cannot_be_made_is_said(call, says):
    model = toy()
    with unchanged(model), pytest.raises(LearnerError, match=says):
        call(model, photo(model)[1])
