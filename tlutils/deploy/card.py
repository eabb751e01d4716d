"""The model card: what to know before using the model, in the format of the Hugging Face hub.

Mitchell et al. 2019, arXiv:1810.03993.
"""

import re
from collections.abc import Sequence
from html import escape

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..errors import printable
from .results import Results

LISTED = 200  # classes that the card lists


def write_card(results: Results) -> ModelCard:
    """Return the card of a finished model; nothing is looked up on the hub."""
    judged = results.judgement
    scores = []
    if judged is not None:
        for metric in ("balanced_accuracy", "accuracy"):
            value = getattr(judged.report, metric).value
            scores.append(
                EvalResult(
                    task_type="image-classification",
                    dataset_type="imagefolder",
                    dataset_name=printable(results.name),
                    dataset_split="test",
                    metric_type=metric,
                    metric_value=round(value, 4),
                )
            )
    about = ModelCardData(
        model_name=printable(results.name),
        library_name="tlutils",
        pipeline_tag="image-classification",
        tags=["image-classification", "transfer-learning"],
        eval_results=scores or None,
    )
    return ModelCard(f"---\n{about.to_yaml()}\n---\n\n{_body(results)}\n")


def _body(results: Results) -> str:
    judged, names = results.judgement, results.classes
    parts = [f"# {text(results.name)}", f"An image classifier of {len(names)} classes."]
    parts += ["## Evaluation"]
    if judged is None:
        parts.append("There was no test image: nobody knows how good it is.")
    else:
        rows = [
            ("balanced accuracy", str(judged.report.balanced_accuracy)),
            ("random guessing", f"{1 / len(names):.3f}"),
        ]
        rows.append(("images", str(judged.report.n)))
        parts.append(_table(("on the test images", "value [95 % interval]"), rows))
        parts.append("Nothing was chosen on these images.")
    parts += ["## Limits", *(f"* {text(doubt)}" for doubt in results.doubts)]
    parts += [
        "* It names one of its classes for every image, also for one that shows none of them.",
        f"* {text(results.novelty)}",
        "* It was judged on images from the same source as those it learned from. With other cameras, places "
        "or times it may be worse, and the numbers above cannot show it.",
        "## Classes",
    ]
    support = judged.report.per_class["support"].tolist() if judged else [0] * len(names)
    recalls = list(map(str, judged.report.recalls)) if judged else ["undefined"] * len(names)
    train = results.counts["train"]
    listed = list(zip(names, map(str, train), map(str, support), recalls, strict=True))[:LISTED]
    parts.append(_table(("class", "training images", "test images", "recall"), listed))
    if len(names) > LISTED:
        parts.append(f"And {len(names) - LISTED} more, in `model.safetensors`.")
    sizes = ", ".join(f"{split} {sum(counts)}" for split, counts in results.counts.items())
    parts += ["## Data", f"Images: {sizes}. Split: {text(results.split_rule)}. Their licence: not stated."]
    parts += ["## Training", text(results.trained)]
    parts += [f"It began with {text(results.backbone)} ({text(results.weights)}), whose licence holds too."]
    parts += [
        "## Preprocessing",
        "In the words of Pillow and NumPy; exported files have it beside them as JSON.",
    ]
    steps = [
        (step["do"], "; ".join(f"{k} {v}" for k, v in step.items() if k not in ("do", "how")), step["how"])
        for step in results.preprocessing["steps"]
    ]
    parts.append(_table(("step", "values", "how"), steps))
    parts += [
        "## Use",
        "In the folder above this one:",
        "```python\nfrom tlutils import models, train\n\n"
        'model = models.load("THIS_FOLDER/model.safetensors")\n'
        'train.predict(model, ["photo.jpg"])  # paths, PIL images or arrays\n```',
        "```bash\ntlutils predict THIS_FOLDER photo.jpg\ntlutils export THIS_FOLDER --onnx model.onnx\n```",
    ]
    return "\n\n".join(_joined(parts))


def _joined(parts: Sequence[str]) -> list[str]:
    """Return the paragraphs with the items of a list, which belong together, in one."""
    joined: list[str] = []
    for part in parts:
        if part.startswith("* ") and joined and joined[-1].startswith("* "):
            joined[-1] += f"\n{part}"
        else:
            joined.append(part)
    return joined


def text(words: object) -> str:
    """Return words as Markdown that shows just them, whatever a folder or file is called."""
    return re.sub(r"([\\`*_\[\]#!|~$])", r"\\\1", escape(printable(str(words)), quote=False))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
