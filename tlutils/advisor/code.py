"""The advice as Python that anybody can run: from the folder to a classifier that predicts."""

from typing import Any

from .. import train
from ..probe import COARSE_FOLDS, COARSE_PENALTIES

START = """\
from tlutils import {imports}

{note}dataset = data.load({given})
model = models.load({backbone!r})
"""

NOTE = """\
# The advice was taken with a function that says which images belong together. Pass it here as group_by=…:
# without it other splits are drawn.
"""

KNN = """\
read = features.extract(model, dataset.train, at={final!r})
found = probe.fit_probe(read[{final!r}], read.labels, classes=dataset.classes, kind="knn", {folds})
judged = features.extract(model, dataset.val, at={final!r})
print(found.report(judged[{final!r}], judged.labels))
"""

PROBE = """\
read = features.extract(model, dataset.train, at={final!r})
found = probe.fit_probe(
    read[{final!r}], read.labels, classes=dataset.classes, penalties={penalties}, {folds}
)
model = surgery.replace_head(model, len(dataset.classes))
probe.install_head(model, found, dataset.train)
"""

DEPTH = """\
read = features.extract(model, dataset.train, at={stage!r})
found = probe.fit_probe(
    read[{stage!r}], read.labels, classes=dataset.classes, penalties={penalties}, {folds}
)
judged = features.extract(model, dataset.val, at={stage!r})
print(found.report(judged[{stage!r}], judged.labels))
"""

END_THERE = """\
model = surgery.truncate(model, {stage!r}, num_classes=len(dataset.classes))
final = surgery.stages(model).embedding
read = features.extract(model, dataset.train, at=final)
found = probe.fit_probe(
    read[final], read.labels, classes=dataset.classes, penalties={penalties}, {folds}
)
probe.install_head(model, found, dataset.train)
"""

DEPTHS = """\
stages = {stages}
known, judges = (
    features.extract(model, split, at=stages) for split in (dataset.train, dataset.val)
)
x, x_val = (np.concatenate([store[stage] for stage in stages], axis=1) for store in (known, judges))
# The share {share} of the features, those that weigh most in a probe of all of them, after Head2Toe.
settings = dict(groups=known.groups, {folds})
everything = probe.fit_probe(x, known.labels, penalties=[0.03], **settings)
weight = np.linalg.norm(everything.model.weight * x.std(0)[:, None], axis=1)
kept = np.argsort(-weight, kind="stable")[: int(np.ceil({share} * len(weight)))]
found = probe.fit_probe(
    x[:, kept], known.labels, classes=dataset.classes, penalties={penalties}, **settings
)
print(found.report(x_val[:, kept], judges.labels, groups=judges.groups))
"""

SCRATCH = """\
model = claims.small_network(len(dataset.classes), seed={seed})
recipe = train.Recipe.scratch({settings})
"""

LAST = """\
recipe = train.Recipe.partial({stage!r}, head_lr={head_lr}, {settings})
"""

FIRST = """\
stages = surgery.stages(model)
first = {{name for stage in (*stages.body[:3], "head") for name in stages[stage].parameters}}
for name, parameter in model.named_parameters():
    parameter.requires_grad_(name in first)
recipe = train.Recipe.finetune(head_lr={head_lr}, {settings})
"""

FINETUNE = """\
recipe = train.Recipe.finetune(head_lr={head_lr}, reset={reset!r}, {settings})
"""

HEAD = """\
model = surgery.replace_head(model, len(dataset.classes))
"""

FIT = """\
history = train.fit(model, dataset, recipe)
"""

END = """\
model = models.describe(model, classes=dataset.classes)
print(train.evaluate(model, dataset.val))
models.save(model, "model.safetensors")
# Once, at the very end: train.evaluate(model, dataset.test)
"""

READ = """\
# It comes back with: models.load(path, into=claims.small_network(len(dataset.classes), seed=0))
"""

PARTS = {
    "knn": (KNN,),
    "probe": (PROBE, END),
    "probe, best depth": (END_THERE, END),
    "probe beside the network": (DEPTH,),
    "probe, all depths": (DEPTHS,),
    "last stage": (PROBE, LAST, FIT, END),
    "lp-ft": (PROBE, FINETUNE, FIT, END),
    "finetune": (HEAD, FINETUNE, FIT, END),
    "first stages": (PROBE, FIRST, FIT, END),
    "scratch": (SCRATCH, FIT, END, READ),
}
MODULES = ("claims", "data", "features", "models", "probe", "surgery", "train")


def write_recipe(
    policy: str,
    backbone: str,
    source: str,
    *,
    group_by: str | None,
    grey_bits: int,
    stages: list[str],
    linear: bool,
    ends: bool,
    stage: str,
    share: float,
    recipe: train.Recipe | None,
    seed: int,
) -> str:
    """Return Python code that carries out a policy.

    Args:
        policy: a key of `POLICIES`.
        backbone: name of the network.
        source: name or folder of the data set; "" leaves a place to write one in.
        group_by: the regular expression by which images belong together, "" where none do; None for a
            function, which no text can hold.
        grey_bits: as in `data.load`.
        stages: those whose output was read; the last of them is the one before the head.
        linear: whether a probe can become the network's head.
        ends: whether the network can end after `stage`, so that its probe becomes the head.
        stage: the stage whose output is read, or the first stage that trains.
        share: the part of the features of all stages that is kept.
        recipe: of policies that train, as `make_recipe` returns it.
        seed: what random numbers are drawn from.
    """
    if policy == "probe, best depth" and stage == stages[-1]:
        policy, ends = "probe", linear
    if policy == "probe":
        stage, ends = stages[-1], linear
    if policy in ("probe", "probe, best depth") and not ends:
        policy = "probe beside the network"
    body = "".join(PARTS[policy])
    imports = ", ".join(name for name in MODULES if f"{name}." in START + body)
    given = [
        repr(source or "your/folder"),
        f"seed={seed}",
        'too_few="train"',
        *([f"group_by={group_by!r}"] * bool(group_by)),
        *([f"grey_bits={grey_bits}"] * (grey_bits != 16)),
    ]
    values: dict[str, Any] = {"imports": imports, "given": ", ".join(given), "backbone": backbone}
    values["note"] = NOTE if group_by is None else ""
    values |= {"stages": stages, "final": stages[-1], "stage": stage, "share": share, "seed": seed}
    values |= {"folds": f"folds={COARSE_FOLDS}, seed={seed}", "penalties": COARSE_PENALTIES}
    if recipe is not None:
        (phase,) = recipe.phases
        values |= {
            "head_lr": phase.head_lr,
            "reset": recipe.reset,
            "settings": f"lr={phase.lr}, epochs={phase.epochs}, batch_size={recipe.batch_size}, "
            f"augment={recipe.augment!r}, freeze_batchnorm={recipe.freeze_batchnorm},\n    "
            f'class_weight="{recipe.class_weight}", keep="{recipe.keep}", seed={seed}',
        }
    numpy = "import numpy as np\n\n" if "np." in body else ""
    return numpy + (START + "\n" + body).format(**values)
