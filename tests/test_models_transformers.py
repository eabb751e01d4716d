"""Image classifiers of transformers are a zoo like the others: tiny ones, with random weights, offline."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from families import few
from tiny import tiny_data, weights
from torch import nn

from tlutils import data, explain, features, models, surgery, train
from tlutils.errors import LearnerError
from tlutils.inference import unwrap
from tlutils.models import huggingface

transformers = pytest.importorskip("transformers")
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
WIDTHS = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 3}
CONFIGS = {
    "vit": lambda: transformers.ViTConfig(**SMALL, intermediate_size=32),
    "resnet": lambda: transformers.ResNetConfig(**WIDTHS, embedding_size=8, layer_type="basic"),
    "convnext": lambda: transformers.ConvNextConfig(**WIDTHS),
    "beit": lambda: transformers.BeitConfig(**SMALL, intermediate_size=32),
    "regnet": lambda: transformers.RegNetConfig(**WIDTHS, embedding_size=8, groups_width=8),
    "deit": lambda: transformers.DeiTConfig(**SMALL, intermediate_size=32),
}
PROCESSORS = {
    "vit": lambda: transformers.ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3]
    ),
    "resnet": lambda: transformers.ConvNextImageProcessor(
        size={"shortest_edge": 48}, crop_pct=0.75, image_mean=[0.485, 0.456, 0.406], image_std=[0.2, 0.2, 0.3]
    ),
    "convnext": lambda: transformers.CLIPImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, resample=2
    ),
    "beit": lambda: transformers.DeiTImageProcessor(
        size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}
    ),
    "regnet": lambda: transformers.EfficientNetImageProcessor(size={"height": 40, "width": 32}),
    "deit": lambda: transformers.LevitImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ),
}


def slow(name):
    return pytest.param(name, marks=pytest.mark.full)


def tiny(name):
    torch.manual_seed(0)
    config = CONFIGS[name]()
    if name == "deit":
        return transformers.DeiTForImageClassificationWithTeacher(config).eval()
    return transformers.AutoModelForImageClassification.from_config(config).eval()


@pytest.fixture(params=few(CONFIGS, "vit", "resnet", "deit"))
def folder(request, tmp_path):
    """A folder as save_pretrained writes it, with weights and processor, of each kind in turn."""
    tiny(request.param).save_pretrained(tmp_path)
    PROCESSORS[request.param]().save_pretrained(tmp_path)
    return request.param, tmp_path


def test_a_folder_loads_with_its_weights_and_prepares_images_as_its_own_processor_does(folder):
    name, path = folder
    model, processor = models.load(f"transformers/{path}"), PROCESSORS[name]()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny(name).parameters(), strict=True))
    assert models.info(model).assumed == ""
    image = data.load_photograph("cat").resize((90, 60))
    expected = processor(images=image, return_tensors="pt")["pixel_values"][0]
    got = data.transform_for(model)(image)
    assert got.shape == expected.shape
    assert (got - expected).abs().mean() < 0.02
    raw = type(model).from_pretrained(path)
    assert data.transform_for(raw) == data.transform_for(model)
    assert data.transform_for(nn.Sequential(raw)) == data.transform_for(model)


def test_a_folder_loads_with_a_new_head_and_comes_back_from_a_file(folder, tmp_path):
    _, path = folder
    model = models.load(f"transformers/{path}", num_classes=5)
    surgery.replace_head(model, 4, seed=0)
    again = models.load(models.save(model, tmp_path / "kept", classes=list("abcd")))
    x = torch.rand(2, *models.info(model).input_size)
    with torch.no_grad():
        assert torch.equal(model(x).logits, again(x).logits)
    assert models.info(again).classes == list("abcd")
    assert data.transform_for(again) == data.transform_for(model)


@pytest.mark.parametrize("name", ["resnet", "deit", *map(slow, ("vit", "convnext", "beit", "regnet"))])
def test_surgery_takes_them_as_it_takes_any_classifier(name):
    model = models.describe(tiny(name), input_size=32, mean=0.5, std=0.5)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(x).logits
        names = surgery.stages(model).names
        for stage in (names[2], "head"):
            prefix, suffix = surgery.split_at(model, stage)
            rest = suffix(prefix(x))
            assert torch.equal(getattr(rest, "logits", rest), expected), stage
    surgery.replace_head(model, 5, seed=0)
    assert model(x).logits.shape == (2, 5)


@pytest.mark.parametrize("name", ["vit", "resnet", *map(slow, ("convnext", "beit", "deit", "regnet"))])
def test_they_train_predict_and_give_features_as_any_classifier(name):
    model = models.describe(tiny(name), input_size=32, mean=0.5, std=0.5)
    images = tiny_data(train=6, val=3)
    surgery.replace_head(model, 3, seed=0)
    surgery.freeze_to(model, "head")
    assert surgery.audit(model.train()).ok
    before = weights(model)
    train.fit(model, images, train.Recipe.probe(epochs=1, batch_size=6))
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved
    assert all("classifier" in key for key in moved), moved
    assert train.predict(model, images.val).probabilities.shape == (3, 3)
    assert np.isfinite(features.extract(model, images.val, at="pool")["pool"][:]).all()


@pytest.mark.parametrize("name", ["resnet", "convnext", "regnet"])
def test_grad_cam_explains_those_that_have_feature_maps(name):
    model = models.describe(tiny(name), input_size=32, mean=0.5, std=0.5)
    assert explain.grad_cam(model, torch.rand(1, 3, 32, 32)).shape == (1, 32, 32)


def test_without_its_processor_the_preprocessing_is_assumed_and_processors_that_differ_are_named(caplog):
    model = tiny("vit")
    assert "usual ViTImageProcessor" in models.info(model).assumed
    assert models.info(model).input_size == (3, 32, 32)
    data.transform_for(model)
    assert "preprocessing is assumed" in caplog.text
    reversing = transformers.MobileViTImageProcessor(
        size={"shortest_edge": 36}, crop_size=dict(height=32, width=32)
    )
    assert "changes the colours" in huggingface.preprocessing(reversing)[1]


def test_random_weights_of_a_kind_and_what_cannot_be_had_is_said(tmp_path):
    first, second = (
        models.load("transformers/resnet", pretrained=False, num_classes=2, seed=s) for s in (0, 0)
    )
    assert torch.equal(next(first.parameters()), next(second.parameters()))
    assert models.info(first).num_classes == 2
    with pytest.raises(LearnerError, match="kind of model and has no weights"):
        models.load("transformers/resnet")
    with pytest.raises(LearnerError, match="has no config"):
        models.load(f"transformers/{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}), encoding="utf-8")
    with pytest.raises(LearnerError, match="no image classifier"):
        models.load(f"transformers/{tmp_path}")
    (tmp_path / "config.json").write_text("[1", encoding="utf-8")
    with pytest.raises(LearnerError, match="is not valid JSON"):
        models.load(f"transformers/{tmp_path}")
    body = transformers.ViTModel(CONFIGS["vit"]())
    body.save_pretrained(tmp_path)
    with pytest.raises(LearnerError, match="num_classes"):
        models.load(f"transformers/{tmp_path}")
    assert models.info(models.load(f"transformers/{tmp_path}", num_classes=7)).num_classes == 7


class Trainer(nn.Module):
    """A module around a classifier that hands on the scores alone, as trainers are written."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(pixel_values=x).logits


def test_a_trainer_around_one_is_looked_through():
    model = models.describe(tiny("beit"), mean=0.3, std=0.2)
    assert unwrap(Trainer(model)) is model
    assert data.transform_for(Trainer(model)) == data.transform_for(model)


@pytest.mark.full
def test_the_package_is_imported_for_its_own_models_alone():
    code = (
        "import sys; from tlutils import models, surgery; "
        "m = models.load('test_resnet', pretrained=False); surgery.stages(m); models.info(m); "
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["vit", "resnet", "convnext"])
def test_a_models_own_loss_and_configuration_know_its_new_classes(name):
    model = surgery.replace_head(tiny(name), 7)
    output = model(torch.rand(2, 3, 32, 32), labels=torch.tensor([0, 6]))
    assert torch.isfinite(output.loss)
    assert torch.allclose(output.loss, nn.functional.cross_entropy(output.logits, torch.tensor([0, 6])))
    assert (model.config.num_labels, len(model.config.label2id), model.num_labels) == (7, 7, 7)
    assert models.info(model).num_classes == 7
