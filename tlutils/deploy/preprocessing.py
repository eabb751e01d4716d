"""How to prepare an image for a model without this package, in words and numbers."""

from typing import Any

from torch import nn

from .. import data, models

FORMAT = 1  # of the description
INPUT, OUTPUT = "images", "logits"  # names in an exported file


def describe_preprocessing(model: nn.Module) -> dict[str, Any]:
    """Return what has to be done to an image before the model sees it, as plain values for a JSON file.

    The steps are in the words and rounding rules of Pillow and NumPy, so that somebody with these two alone
    gets the same numbers as `data.transform_for(model)`; pixels of JPEGs of 2 megapixels and more differ a
    little, since those are decoded at a reduced size here.

    Args:
        model: An image classifier; its preprocessing comes from `models.info(model)`.

    Raises:
        LearnerError: As `data.transform_for` does.

    Example:
        >>> from tlutils import deploy, models
        >>> model = models.load("test_resnet", pretrained=False, num_classes=2)
        >>> found = deploy.describe_preprocessing(model)
        >>> [step["do"] for step in found["steps"]]
        ['upright', 'opaque', 'colour', 'resize', 'crop', 'scale', 'normalise', 'arrange']
    """
    info, prepare = models.info(model), data.transform_for(model)
    height, width = prepare.size
    grey = len(prepare.mean) == 1
    return {
        "format": FORMAT,
        "input": {
            "name": INPUT,
            "shape": ["batch", len(prepare.mean), height, width],
            "type": "float32",
        },
        "output": {
            "name": OUTPUT,
            "shape": ["batch", info.num_classes],
            "meaning": "one score per class; softmax over a row gives probabilities",
            "classes": info.classes,
        },
        "steps": [
            {"do": "upright", "how": "apply the EXIF orientation: PIL.ImageOps.exif_transpose"},
            {
                "do": "opaque",
                "background": list(data.BACKGROUND),
                "how": "what is transparent shows the background: PIL.Image.alpha_composite",
            },
            {
                "do": "colour",
                "mode": "L" if grey else "RGB",
                "how": "convert to 8 bits per channel, 16-bit grey values by dividing them by "
                f"{(2**prepare.grey_bits - 1) / 255:.6g}",
            },
            _resize(prepare),
            *_pad(prepare),
            {
                "do": "crop",
                "height": height,
                "width": width,
                "how": "the middle: top = round((picture height - height) / 2), left alike; halves are "
                "rounded to the even number, as by Python's round",
            },
            {"do": "scale", "divide_by": 255, "how": "to float32 from 0 to 1"},
            {
                "do": "normalise",
                "mean": list(prepare.mean),
                "std": list(prepare.std),
                "how": "(value - mean) / std in each channel",
            },
            {"do": "arrange", "how": "channels first, then one axis for the batch: (batch, channel, y, x)"},
        ],
    }


def _resize(prepare: data.Preprocess) -> dict[str, Any]:
    """Return the step that resizes, with the rule of the size in words that can be computed."""
    box = prepare.resized
    step: dict[str, Any] = {"do": "resize", "resample": prepare.interpolation}
    how = "PIL.Image.Image.resize((new width, new height), resample)"
    if prepare.crop_mode == "squash":
        return step | {"rule": "exact", "height": box[0], "width": box[1], "how": how}
    if prepare.crop_mode == "border":
        rule = "ratio = max(height / box height, width / box width); new side = max(1, round(side / ratio))"
        return step | {"rule": "fit", "height": box[0], "width": box[1], "how": f"{rule}; {how}"}
    if box[0] == box[1]:
        rule = "new side = int(shorter * side / min(height, width)), rounded down"
        step |= {"rule": "shorter", "shorter": box[0]}
    else:
        rule = "ratio = min(height / box height, width / box width); new side = round(side / ratio)"
        step |= {"rule": "cover", "height": box[0], "width": box[1]}
    return step | {
        "how": f"{rule}; {how}",
        "long": "a strip whose resized picture would have more than "
        f"{prepare.most_pixels} pixels is resized and cropped at once, with the resize's box argument",
    }


def _pad(prepare: data.Preprocess) -> list[dict[str, Any]]:
    """Return the step that puts a fitted picture on a ground, where there is one."""
    if prepare.crop_mode != "border":
        return []
    colour = [round(255 * value) for value in prepare.mean]
    how = "in the middle of a ground of this colour, at least as large as the crop: left = rest // 2"
    return [{"do": "pad", "colour": colour, "how": how}]
