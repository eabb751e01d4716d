"""An exported file gives its model's scores at any batch size, and others can follow its preprocessing."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from image_folders import picture
from PIL import Image, ImageOps
from tiny import SIDE, tiny_net
from torch import nn

from tlutils import cli, data, deploy, models, surgery
from tlutils.errors import LearnerError
from tlutils.inference import logits_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def awake(model: nn.Module) -> nn.Module:
    """The model with a head and BatchNorm statistics that make its scores depend on the image."""
    heads = surgery.head_layers(model)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for head in heads.values():
            nn.init.normal_(head.weight, std=0.1)
        for norm in [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]:
            norm.momentum = None  # the average over the batches that follow
        if any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
            model.train()(torch.randn(4, *models.info(model).input_size))
    return model.eval()


def small() -> nn.Module:
    """Convolutions, BatchNorm, pooling and a head; whole architectures are in the full tests."""
    return awake(tiny_net())


def prepared(model: nn.Module, count: int) -> torch.Tensor:
    prepare = data.transform_for(model)
    return torch.stack([prepare(picture(seed, 90)) for seed in range(count)])


def run_onnx(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": x.numpy()})[0]


def run_torch(path, x):
    return torch.export.load(path).module()(x).detach().numpy()


RUN = {"onnx": run_onnx, "torch": run_torch}


def check(model, exported, sizes=(2, 5)):
    """Compare exported files with a model on images and batch sizes that the exporter never saw."""
    for file in exported:
        for size in sizes:
            x = prepared(model, size)
            with torch.no_grad():
                expected = logits_of(model(x)).numpy()
            assert expected.std(axis=0).max() > 10 * file.tolerance  # which says something
            assert np.abs(RUN[file.format](file.path, x) - expected).max() <= file.tolerance


def export(model, folder):
    """Export a model in both formats; it stays as it is."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported = [deploy.export_onnx(model, folder / "pets"), deploy.export_torch(model, folder / "pets")]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    return exported


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small convolutional network, and both its files."""
    model = models.describe(small(), classes=["cat", "dog", "eel"])
    return model, export(model, tmp_path_factory.mktemp("network"))


def test_exported_files_give_the_scores_of_a_convolutional_network(network):
    check(*network)


@pytest.mark.full
def test_exported_files_give_the_scores_of_a_transformer(tmp_path):
    model = awake(models.load("test_vit", pretrained=False, num_classes=3, input_size=32))
    check(model, [deploy.export_onnx(model, tmp_path / "vit")])


ARCHITECTURES = [
    "tf_efficientnet_lite0",
    "timm/test_resnet",
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "torchvision/googlenet",  # gives a named tuple in training, and changes its input
    "torchvision/densenet121",
    "torchvision/squeezenet1_0",  # a convolution as head
    "torchvision/vit_b_32",
    "torchvision/swin_t",  # shifted windows
    "timm/convnext_atto",
    "timm/test_nfnet",  # weights standardised at each pass
    "timm/test_coatnet",
    "timm/deit_tiny_distilled_patch16_224",  # two heads
    "timm/mobilevit_xxs",
    "timm/levit_128s",
    "timm/hrnet_w18_small",
]


@pytest.mark.full
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_of_torchvision_and_timm_are_exported(name, tmp_path):
    model = awake(models.load(name, pretrained=False, num_classes=3))
    check(model, export(model, tmp_path))


@pytest.mark.full
@pytest.mark.parametrize("name", ["ViT", "ConvNext", "ResNet", "Beit", "Swin"])
def test_architectures_of_transformers_are_exported(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokens = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    maps = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
    settings = {
        "ViT": tokens | {"image_size": 32, "patch_size": 8},
        "Beit": tokens | {"image_size": 32, "patch_size": 8},
        "ConvNext": maps,
        "ResNet": maps | {"embedding_size": 8, "layer_type": "basic"},
        "Swin": {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "window_size": 4,
        },
    }
    config = getattr(transformers, f"{name}Config")(num_labels=3, **settings[name])
    torch.manual_seed(0)
    model = transformers.AutoModelForImageClassification.from_config(config).eval()
    model = models.describe(model, input_size=(3, 32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    check(awake(model), export(model, tmp_path))


def test_the_file_states_its_opset_its_free_batch_size_and_its_parity(network):
    exported = network[1][0]
    read = onnx.load(exported.path)
    assert (
        [entry.version for entry in read.opset_import if not entry.domain]
        == [deploy.OPSET]
        == [exported.opset]
    )
    (given,) = read.graph.input
    batch, *rest = given.type.tensor_type.shape.dim
    assert batch.dim_param
    assert [side.dim_value for side in rest] == [3, SIDE, SIDE]
    about = json.loads(exported.preprocessing.read_text("utf-8"))
    assert about["opset"] == deploy.OPSET
    assert about["input"]["shape"] == ["batch", 3, SIDE, SIDE]
    assert about["parity"] == {"images": 6, "batch_sizes": [1, 3], "largest_difference": exported.difference}
    for words in ("opset 18", "batches of 1 and 3", "allowed"):
        assert words in str(exported)


def follow(steps, path):
    """What the JSON file says, done with Pillow and NumPy alone."""
    image = Image.open(path)
    for step in steps:
        match step["do"]:
            case "upright":
                image = ImageOps.exif_transpose(image)
            case "opaque":
                if "A" in image.getbands():
                    ground = Image.new("RGBA", image.size, (*step["background"], 255))
                    image = Image.alpha_composite(ground, image.convert("RGBA"))
            case "colour":
                image = image.convert("RGB").convert(step["mode"])
            case "resize":
                width, height = image.size
                match step["rule"]:
                    case "shorter":
                        size = [int(step["shorter"] * side / min(image.size)) for side in image.size]
                    case "cover":
                        ratio = min(height / step["height"], width / step["width"])
                        size = [round(side / ratio) for side in image.size]
                    case "fit":
                        ratio = max(height / step["height"], width / step["width"])
                        size = [max(1, round(side / ratio)) for side in image.size]
                    case "exact":
                        size = [step["width"], step["height"]]
                image = image.resize(size, Image.Resampling[step["resample"].upper()])
            case "pad":
                crop = next(other for other in steps if other["do"] == "crop")
                size = max(crop["width"], image.width), max(crop["height"], image.height)
                ground = Image.new(image.mode, size, tuple(step["colour"]))
                ground.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
                image = ground
            case "crop":
                left, top = (
                    round((image.width - step["width"]) / 2),
                    round((image.height - step["height"]) / 2),
                )
                image = image.crop((left, top, left + step["width"], top + step["height"]))
            case "scale":
                values = np.asarray(image, dtype=np.float32) / np.float32(step["divide_by"])
                values = values if values.ndim == 3 else values[:, :, None]
            case "normalise":
                values = (values - np.float32(step["mean"])) / np.float32(step["std"])
            case "arrange":
                return values.transpose(2, 0, 1)[None]
    raise AssertionError(steps)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Photographs of several shapes in files, one upright by its EXIF tag alone, one with transparency."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("cat", "coffee", "rocket"):
        data.load_photograph(name).save(folder / f"{name}.png")
    portrait = data.load_photograph("china")
    portrait.crop((0, 0, 301, 427)).save(folder / "portrait.jpg", quality=90)
    turned = Image.Exif()
    turned[274] = 6
    portrait.save(folder / "turned.jpg", exif=turned)
    faded = data.load_photograph("flower").convert("RGBA")
    faded.putalpha(Image.linear_gradient("L").resize(faded.size))
    faded.save(folder / "faded.png")
    return sorted(folder.iterdir())


PREPROCESSING = {
    "as timm": {},
    "torchvision's": {"crop_pct": 224 / 232, "interpolation": "bilinear"},
    "squashed": {"crop_mode": "squash", "crop_pct": 1.0},
    "with a border": {
        "crop_mode": "border",
        "crop_pct": 0.9,
        "mean": (0.3, 0.5, 0.6),
        "std": (0.2, 0.3, 0.25),
    },
    "not square": {"input_size": (3, 96, 160), "crop_pct": 0.9},
    "odd": {"input_size": (3, 75, 75), "crop_pct": 0.77, "interpolation": "lanczos"},
}


@pytest.mark.parametrize("kind", PREPROCESSING)
def test_whoever_follows_the_json_gets_the_same_numbers_from_photographs(kind, photographs):
    model = models.describe(models.load("test_resnet", pretrained=False), **PREPROCESSING[kind])
    steps = json.loads(json.dumps(deploy.describe_preprocessing(model)))["steps"]
    prepare = data.transform_for(model)
    for path in photographs:
        assert np.allclose(follow(steps, path), prepare(path)[None].numpy(), atol=1e-6), path.name


def test_grey_models_say_so(photographs):
    model = models.load("test_resnet", pretrained=False, in_chans=1)
    steps = deploy.describe_preprocessing(model)["steps"]
    found = follow(steps, photographs[0])
    assert found.shape[1] == 1
    assert np.allclose(found, data.transform_for(model)(photographs[0])[None].numpy(), atol=1e-6)


def test_the_classes_and_the_way_to_them_lie_beside_the_file(photographs, network):
    """From a photograph to a class name with the two files, Pillow, NumPy and a runtime alone."""
    model, (exported, _) = network
    about = json.loads(exported.path.with_name("pets.onnx.json").read_text("utf-8"))
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    for path in photographs:
        (scores,) = session.run(None, {about["input"]["name"]: follow(about["steps"], path)})
        with torch.no_grad():
            expected = model(data.transform_for(model)(path)[None])[0].numpy()
        assert np.allclose(scores[0], expected, atol=1e-4)
        assert about["output"]["classes"][scores[0].argmax()] in ("cat", "dog", "eel")


class ByValue(nn.Module):
    """Chooses by the values of a tensor, which no file can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 8 * 8, 2)

    def forward(self, x):
        return self.fc(x.flatten(1)) if x.mean() > 0 else self.fc(-x.flatten(1))


class Mixing(ByValue):
    """Compares each image with the mean of its batch."""

    def forward(self, x):
        return self.fc((x - x.mean(0, keepdim=True)).flatten(1))


class OneByOne(ByValue):
    """Works for any batch, but by a loop that unrolls to the batch that was seen."""

    def forward(self, x):
        return torch.stack([self.fc(one.flatten()) for one in x])


def toy(kind):
    return models.describe(kind(), input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3).eval()


@pytest.mark.parametrize("export", [deploy.export_onnx, deploy.export_torch])
@pytest.mark.parametrize(
    ("kind", "says"), [(ByValue, "cannot be exported"), (Mixing, "differ"), (OneByOne, "cannot be exported")]
)
def test_a_model_that_cannot_be_exported_is_refused_in_words_and_nothing_is_written(
    export, kind, says, tmp_path
):
    with pytest.raises(LearnerError, match=says):
        export(toy(kind), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_is_not_left_behind(tmp_path, monkeypatch):
    """Were the exporter wrong, the comparison would notice, and what was there before would stay."""
    model = small()
    honest, exporter = torch.export.save, copy.deepcopy(model)
    with torch.no_grad():
        exporter.fc.bias += 0.01
    (tmp_path / "model.pt2").write_bytes(b"the old one")
    broken = torch.export.export(
        exporter, (prepared(model, 3),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    monkeypatch.setattr(torch.export, "save", lambda program, path: honest(broken, path))
    with pytest.raises(LearnerError, match="differ from"):
        deploy.export_torch(model, tmp_path / "model.pt2")
    assert (tmp_path / "model.pt2").read_bytes() == b"the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_what_is_no_plain_float_model_is_refused_or_widened(tmp_path):
    with pytest.warns(FutureWarning, match="deprecated"):
        scripted = torch.jit.trace(toy(Mixing), torch.zeros(1, 3, 8, 8))
    with pytest.raises(LearnerError, match="TorchScript"):
        deploy.export_torch(scripted, tmp_path / "x")
    half = small().half()
    exported = deploy.export_torch(half, tmp_path / "half")
    x = prepared(half, 4)
    with torch.no_grad():
        expected = copy.deepcopy(half).float()(x).numpy()
    assert np.allclose(run_torch(exported.path, x), expected, atol=1e-4)
    assert next(half.parameters()).dtype == torch.float16
    broken = small()
    broken.fc.bias.data[0] = math.nan
    with pytest.raises(LearnerError, match="not finite"):
        deploy.export_torch(broken, tmp_path / "y")


def test_wrong_endings_and_missing_packages_are_named(tmp_path, monkeypatch):
    model = small()
    with pytest.raises(LearnerError, match=r"call it model\.onnx"):
        deploy.export_onnx(model, tmp_path / "model.pt")
    with pytest.raises(LearnerError, match=r"call it model\.pt2"):
        deploy.export_torch(model, tmp_path / "model.onnx")
    monkeypatch.setattr(
        "tlutils.deploy.export.find_spec", lambda name: None if name == "onnxscript" else name
    )
    with pytest.raises(LearnerError, match=r"onnxscript.*tlutils\[export\]"):
        deploy.export_onnx(model, tmp_path / "model.onnx")


def test_the_command_writes_a_file_and_says_how_nearly_it_agrees(tmp_path, capsys):
    model = models.load("test_resnet", pretrained=False, num_classes=3, input_size=32)
    path = models.save(model, tmp_path / "model.safetensors")
    assert cli.main(["export", str(path), "--torch", str(tmp_path / "model.pt2")]) == 0
    assert "differ from the model's by at most" in capsys.readouterr().out
    assert (tmp_path / "model.pt2").is_file()
