"""The contestants of `peers.py`: one job, written the way each library, tutorial or expert would write it.

Each runs in a process of its own and marks its time with a `Clock`. All get the same files, labels, weights,
size, crop, interpolation, normalisation, threads, workers and seed; imports are inside, since they count.
"""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BATCH = 32
CROP = 0.875
LR, HEAD_LR = 3e-4, 3e-3
"""Full learning rates of pretrained stages and of the new head, for everybody without rates of their own."""

CUTS = {"stage8": "last convolution", "stage7": "last block", "stage6": "last two blocks"}
STEM_FIRST = {"stage8": 7, "stage7": 6, "stage6": 5}  # blocks of the frozen half, in timm's network


@dataclass
class Job:
    """What a contestant is given, and where it marks its time."""

    train: list[tuple[str, int]]
    val: list[tuple[str, int]]
    data: str
    weights: str
    images: int | None
    size: int
    threads: int
    workers: int
    seed: int
    most: int | None  # epochs that are run of a longer recipe
    started: float  # time.time() when the process was asked for
    steps: dict[str, float] = field(default_factory=dict)
    epochs: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    frozen_half: float = 0.0  # of the first epoch of a loop by hand: waiting for images, and the frozen half
    _last: float = 0.0

    def since(self) -> float:
        """Return the seconds since the last mark, and make one."""
        last, self._last = self._last or self.started, time.time()
        return self._last - last

    def step(self, name: str) -> None:
        """What happened since the last mark was this."""
        self.steps[name] = self.steps.get(name, 0.0) + self.since()

    def epoch(self, accuracy: float, seconds: float | None = None) -> None:
        """What happened since the last mark was an epoch; of `seconds`, where more than that happened."""
        passed = self.since()
        own = passed if seconds is None else seconds
        if passed - own > 1e-3:
            self.steps["prefix"] = self.steps.get("prefix", 0.0) + passed - own
        self.epochs.append(own)
        self.accuracies.append(float(accuracy))

    def run(self, epochs: int) -> int:
        """Return how many epochs of a recipe are run."""
        return min(epochs, self.most or epochs)


@dataclass(frozen=True)
class Contestant:
    """`epochs` is the length of the recipe; `needs` names a Python package, `after` whose cache it uses.

    `whole`: it is run with all its epochs or not at all.
    """

    name: str
    task: str
    call: Callable[[Job], object]
    epochs: int = 0
    needs: str = ""
    after: str = ""
    whole: bool = False


CONTESTANTS: dict[str, Contestant] = {}


def contestant(name: str, **about: Any) -> Callable[[Callable[[Job], object]], Callable[[Job], object]]:
    def add(call: Callable[[Job], object]) -> Callable[[Job], object]:
        CONTESTANTS[name] = Contestant(name, name.partition(":")[0], call, **about)
        return call

    return add


# ---------------------------------------------------------------- this package


def read_data(folder: str, images: int | None) -> tuple[Any, Any]:
    """Return (train, val) of a folder with train and val, or of a data set's name: what everybody gets."""
    from dataclasses import replace

    from tlutils import data

    if not Path(folder).expanduser().is_dir():
        found = data.load(folder)
        train, val = found.train, found.val
    else:
        found = data.load(folder, splits={"train": "train", "val": "val"})
        # Where a folder has no test split one is taken from train; here nothing is chosen, so it goes back.
        names = ("paths", "labels", "hashes", "groups", "files")
        both = {name: [*getattr(found.train, name), *getattr(found.test, name)] for name in names}
        train, val = replace(found.train, **both), found.val
    few = [
        split.select(range(0, len(split), max(1, len(split) // images))) if images else split
        for split in (train, val)
    ]
    return few[0], few[1]


def start_ours(job: Job) -> tuple[Any, Any, Any]:
    import sklearn.linear_model  # noqa: F401  # which a probe imports when it is solved
    import torch

    from tlutils import features, models, probe  # noqa: F401

    torch.set_num_threads(job.threads)
    job.step("import")
    train, val = read_data(job.data, job.images)
    job.step("scan")
    model = models.load(models.DEFAULT, num_classes=len(train.classes), input_size=job.size, seed=job.seed)
    job.step("model")
    return model, train, val


def probe_ours(job: Job) -> None:
    from tlutils import features, probe

    model, train, val = start_ours(job)
    stores = [features.extract(model, split, at="pool") for split in (train, val)]
    job.step("extract")
    fitted = probe.fit_probe(stores[0]["pool"], stores[0].labels, seed=job.seed)
    hits = fitted.predict(stores[1]["pool"]) == stores[1].labels
    job.step("solve")
    job.accuracies.append(float(hits.mean()))


contestant("probe: ours, cold store")(probe_ours)
contestant("probe: ours, warm store", after="probe: ours, cold store")(probe_ours)


@contestant("sweep: ours, warm store", after="probe: ours, cold store")
def sweep_ours(job: Job) -> None:
    """A probe of one setting, and of twenty, each from loading on; a first one brings late imports."""
    import numpy as np

    from tlutils import features, probe

    start_ours(job)
    for penalties in ([0.1], [0.1], np.logspace(2, -3, 20)):
        begun = time.time()
        model, train, _ = start_ours(job)
        store = features.extract(model, train, at="pool")
        probe.fit_probe(store["pool"], store.labels, penalties=penalties, seed=job.seed)
        job.steps[f"{len(penalties)} settings"] = time.time() - begun


@contestant("depth: ours, every stage")
def depth_ours(job: Job) -> None:
    from tlutils import features, probe, surgery

    model, train, val = start_ours(job)
    at = [stage.name for stage in surgery.stages(model)[:-1]]
    stores = [features.extract(model, split, at=at) for split in (train, val)]
    job.step("extract")
    for name in at:
        fitted = probe.fit_probe(stores[0][name], stores[0].labels, seed=job.seed)
        job.accuracies.append(float((fitted.predict(stores[1][name]) == stores[1].labels).mean()))
    job.step("solve")


def fit_ours(job: Job, recipe: Callable[..., Any], epochs: int, **options: Any) -> None:
    from types import SimpleNamespace

    model, train, val = start_ours(job)
    from tlutils import train as training

    job.step("import")
    made = recipe(training.Recipe)(epochs=job.run(epochs), seed=job.seed, keep="last", **options)
    data = SimpleNamespace(train=train, val=val, classes=train.classes)

    def mark(history: Any) -> None:
        row = history.table.iloc[-1]
        job.epoch(row["val_accuracy"], row["seconds"])

    training.fit(model, data, made, num_workers=job.workers, on_epoch=mark)
    job.step("finish")


# ---------------------------------------------------------------- what the others share


class Pictures:
    """A torch data set of (tensor, label), the tensors prepared by torchvision as the weights ask."""

    def __init__(self, files: list[tuple[str, int]], transform: Any) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        from PIL import Image

        path, label = self.files[i]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), label


def transform(job: Job, *, random: bool = False) -> Any:
    from torchvision import transforms as t
    from torchvision.transforms import InterpolationMode

    way = InterpolationMode.BICUBIC
    if random:
        crop = [t.RandomResizedCrop(job.size, interpolation=way), t.RandomHorizontalFlip()]
    else:
        crop = [t.Resize(math.floor(job.size / CROP + 1e-6), interpolation=way), t.CenterCrop(job.size)]
    return t.Compose([*crop, t.ToTensor(), t.Normalize([0.5] * 3, [0.5] * 3)])


def classes(job: Job) -> int:
    return 1 + max(label for _, label in job.train)


def network(job: Job) -> Any:
    """Return timm's network with the weights that everybody gets, and a new head."""
    import timm
    import torch

    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(torch.load(job.weights))
    model.reset_classifier(classes(job))
    return model


def loaders(job: Job, batch: int = BATCH, *, random: bool = False, **options: Any) -> tuple[Any, Any]:
    from torch.utils.data import DataLoader

    train = Pictures(job.train, transform(job, random=random))
    val = Pictures(job.val, transform(job))
    shared = {"num_workers": job.workers, **options}
    return (
        DataLoader(train, batch_size=batch, shuffle=True, **shared),
        DataLoader(val, batch_size=batch, **shared),
    )


def groups(model: Any) -> list[dict[str, Any]]:
    """Return the parameters that train, in two groups, with their rates."""
    head = {id(p) for p in model.get_classifier().parameters()}
    body = [p for p in model.parameters() if id(p) not in head and p.requires_grad]
    new = [p for p in model.parameters() if id(p) in head]
    return [{"params": body, "lr": LR}] * bool(body) + [{"params": new, "lr": HEAD_LR}]


def accuracy_of(forward: Any, loader: Any) -> float:
    import torch

    with torch.no_grad():
        hits = [(forward(x).argmax(1) == y).float() for x, y in loader]
    return float(torch.cat(hits).mean())


def arithmetic() -> Any:
    """Return bfloat16 where the processor has units for it, as a context."""
    import torch

    units = torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2") and any(
        getattr(torch.cpu, f"_is_{unit}_supported", lambda: False)() for unit in ("avx512_bf16", "amx_tile")
    )
    return torch.autocast("cpu", torch.bfloat16) if units else contextlib.nullcontext()


# ---------------------------------------------------------------- bare costs


@contestant("probe: bare cost (decode, one forward)")
def bare(job: Job) -> None:
    """Decode, resize and run each image once, each part with all threads, and nothing else."""
    from concurrent.futures import ThreadPoolExecutor

    import torch
    from PIL import Image

    def opened(file: tuple[str, int]) -> Any:
        return Image.open(file[0]).convert("RGB")

    job.step("import")
    model, prepare = network(job).eval().to(memory_format=torch.channels_last), transform(job)
    files = job.train + job.val
    job.step("model")
    with ThreadPoolExecutor(job.threads) as pool, torch.no_grad(), arithmetic():
        for first in range(0, len(files), BATCH):
            images = list(pool.map(opened, files[first : first + BATCH]))
            job.step("decode")
            x = torch.stack(list(pool.map(prepare, images)))
            job.step("resize")
            model.forward_features(x.to(memory_format=torch.channels_last)).mean((2, 3))
            job.step("forward")


# ---------------------------------------------------------------- the official tutorial


def tutorial(job: Job, trains: Callable[[Any], Any], epochs: int = 25) -> None:
    """The official tutorial: SGD with momentum, rates that fall every 7 epochs, batches of 4, augmented."""
    import torch
    from torch import nn

    model = network(job)
    for parameter in model.parameters():
        parameter.requires_grad = False
    for parameter in trains(model):
        parameter.requires_grad = True
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    loss_of = nn.CrossEntropyLoss()
    train, val = loaders(job, 4, random=True)
    job.step("import and model")
    for _ in range(job.run(epochs)):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            optimizer.step()
        schedule.step()
        model.eval()
        job.epoch(accuracy_of(model, val))


@contestant("probe: tutorial, frozen", epochs=25)
def tutorial_frozen(job: Job) -> None:
    tutorial(job, lambda model: model.get_classifier().parameters())


@contestant("full: tutorial", epochs=25)
def tutorial_full(job: Job) -> None:
    tutorial(job, lambda model: model.parameters())


@contestant("partial stage7: tutorial", epochs=10)
def tutorial_partial(job: Job) -> None:
    def trains(model: Any) -> Iterator[Any]:
        for part in (*model.blocks[STEM_FIRST["stage7"] :], model.conv_head, model.bn2, model.classifier):
            yield from part.parameters()

    tutorial(job, trains, epochs=10)


# ---------------------------------------------------------------- extract once, train a head (Keras's guide)


@contestant("probe: extract once, head by gradient", epochs=20)
def extract_once(job: Job) -> None:
    import torch
    from torch import nn

    model = network(job).eval()
    job.step("import and model")
    kept = []
    with torch.no_grad():
        for loader in loaders(job):
            pairs = [(model.forward_head(model.forward_features(x), pre_logits=True), y) for x, y in loader]
            kept.append(tuple(map(torch.cat, zip(*pairs, strict=True))))
    job.step("extract")
    (x, y), (x_val, y_val) = kept
    head = nn.Linear(x.shape[1], classes(job))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    for _ in range(20):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(x[rows]), y[rows]).backward()
            optimizer.step()
    job.step("solve")
    with torch.no_grad():
        job.accuracies.append(float((head(x_val).argmax(1) == y_val).float().mean()))


# ---------------------------------------------------------------- loops by hand


def by_hand(job: Job, epochs: int, *, frozen: int | None, strong: bool) -> None:
    """A loop by hand. `frozen` blocks of the network stay as they are; -1 is all but the head.

    `strong` is what an expert would add: the frozen half without gradients and with BatchNorm in evaluation
    mode, channels-last, bfloat16 where the processor has units for it, a fused optimizer, workers that stay.
    """
    import torch
    from torch import nn

    model = network(job)
    parts = [nn.Sequential(model.conv_stem, model.bn1), *model.blocks]
    rest = [model.conv_head, model.bn2, model.global_pool]
    cut = 0 if frozen is None else 1 + frozen
    if frozen == -1:
        parts, rest, cut = [*parts, *rest], [], len(parts) + len(rest)
    prefix, suffix = nn.Sequential(*parts[:cut]), nn.Sequential(*parts[cut:], *rest, model.classifier)
    prefix.requires_grad_(False)
    if strong:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(groups(model), fused=strong)
    train, val = loaders(job, persistent_workers=strong and job.workers > 0)
    steps = epochs * len(train)
    cosine = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + math.cos(math.pi * min(1.0, step / steps))) / 2
    )
    job.step("import and model")

    begun = 0.0

    def forward(x: Any) -> Any:
        nonlocal begun
        if strong:
            x = x.to(memory_format=torch.channels_last)
        with arithmetic() if strong else contextlib.nullcontext():
            with torch.no_grad():
                x = prefix(x)
            if not job.epochs:
                job.frozen_half += time.time() - begun
            x = suffix(x)
        return x

    def timed(loader: Any) -> Iterator[Any]:
        nonlocal begun
        begun = time.time()
        for batch in loader:
            yield batch
            begun = time.time()

    for _ in range(job.run(epochs)):
        suffix.train()
        prefix.eval()
        for x, y in timed(train):
            optimizer.zero_grad()
            nn.functional.cross_entropy(forward(x).float(), y).backward()
            optimizer.step()
            cosine.step()
        suffix.eval()
        job.epoch(accuracy_of(forward, timed(val)))


@contestant("probe: strong loop, frozen", epochs=5)
def strong_frozen(job: Job) -> None:
    by_hand(job, 5, frozen=-1, strong=True)


@contestant("full: strong loop", epochs=5)
def strong_full(job: Job) -> None:
    by_hand(job, 5, frozen=None, strong=True)


@contestant("full: plain loop", epochs=5)
def plain_full(job: Job) -> None:
    by_hand(job, 5, frozen=None, strong=False)


def add_partial(stage: str) -> None:
    @contestant(f"partial {stage}: strong loop", epochs=10)
    def strong(job: Job) -> None:
        by_hand(job, 10, frozen=STEM_FIRST[stage], strong=True)

    @contestant(f"partial {stage}: ours, kept prefix", epochs=10)
    def ours(job: Job) -> None:
        fit_ours(job, lambda recipe: lambda **o: recipe.partial(stage, **o), 10)


for _stage in CUTS:
    add_partial(_stage)


@contestant("full: ours", epochs=5)
def full_ours(job: Job) -> None:
    fit_ours(job, lambda recipe: recipe.finetune, 5)


def add_views(views: int) -> None:
    name = f"{views} kept views" if views else "nothing kept"

    @contestant(f"views: ours, {name}", epochs=8)
    def ours(job: Job) -> None:
        options = {"augment": True, "views": views}
        fit_ours(job, lambda recipe: lambda **o: recipe.partial("stage7", **o), 8, **options)


for _views in (1, 2, 4, 8, 0):
    add_views(_views)


# ---------------------------------------------------------------- fastai


def fastai(job: Job, learn: Callable[[Any, int], object], epochs: int, *, frozen: bool) -> None:
    import warnings

    warnings.filterwarnings("ignore")
    from fastai.vision.all import Callback, CrossEntropyLossFlat, DataLoaders, Learner, accuracy, params

    train, val = Pictures(job.train, transform(job)), Pictures(job.val, transform(job))
    dls = DataLoaders.from_dsets(train, val, bs=BATCH, num_workers=job.workers, device="cpu")
    head = "classifier"

    def splitter(model: Any) -> list[Any]:
        body = [p for name, p in model.named_parameters() if not name.startswith(head)]
        return [body, params(model.get_classifier())]

    class Mark(Callback):  # type: ignore[misc]
        order = 60  # behind the recorder

        def after_epoch(self) -> None:
            job.epoch(self.learn.recorder.values[-1][-1])

    learner = Learner(
        dls,
        network(job),
        loss_func=CrossEntropyLossFlat(),
        metrics=accuracy,
        splitter=splitter,
        cbs=Mark(),
    )
    if frozen:
        learner.freeze()
    job.step("import and model")
    with learner.no_bar(), learner.no_logging():
        learn(learner, job.run(epochs))


@contestant("probe: fastai, frozen", epochs=5, needs="fastai")
def fastai_frozen(job: Job) -> None:
    fastai(job, lambda learner, n: learner.fit_one_cycle(n, HEAD_LR), 5, frozen=True)


@contestant("full: fastai, one cycle", epochs=5, needs="fastai")
def fastai_full(job: Job) -> None:
    fastai(job, lambda learner, n: learner.fit_one_cycle(n, slice(LR, HEAD_LR)), 5, frozen=False)


@contestant("full: fastai, fine_tune", epochs=5, needs="fastai", whole=True)
def fastai_fine_tune(job: Job) -> None:
    """One epoch of the head, then four of everything."""
    fastai(job, lambda learner, n: learner.fine_tune(max(1, n - 1)), 5, frozen=False)


# ---------------------------------------------------------------- Lightning


def lightning(job: Job, epochs: int, *, frozen: bool) -> None:
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    import lightning as L
    import torch
    from torch.nn.functional import cross_entropy

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    L.seed_everything(job.seed, verbose=False)

    class Classifier(L.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = network(job)
            self.hits: list[Any] = []
            if frozen:
                self.model.requires_grad_(False)
                self.model.get_classifier().requires_grad_(True)

        def forward(self, x: Any) -> Any:
            if not frozen:
                return self.model(x)
            self.model.eval()
            with torch.no_grad():
                x = self.model.forward_head(self.model.forward_features(x), pre_logits=True)
            return self.model.get_classifier()(x)

        def training_step(self, batch: Any, _: int) -> Any:
            return cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.hits.append((self(batch[0]).argmax(1) == batch[1]).float())

        def on_validation_epoch_end(self) -> None:
            job.epoch(float(torch.cat(self.hits).mean()))
            self.hits = []

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(groups(self.model))
            return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)]

    trainer = L.Trainer(
        max_epochs=job.run(epochs),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    module, (train, val) = Classifier(), loaders(job)
    job.step("import and model")
    trainer.fit(module, train, val)


@contestant("probe: Lightning, frozen", epochs=5, needs="lightning")
def lightning_frozen(job: Job) -> None:
    lightning(job, 5, frozen=True)


@contestant("full: Lightning", epochs=5, needs="lightning")
def lightning_full(job: Job) -> None:
    lightning(job, 5, frozen=False)


# ---------------------------------------------------------------- start


@contestant("start: import tlutils")
def start(job: Job) -> None:
    job.step("start")
    import tlutils  # noqa: F401

    job.step("import")


def main() -> None:
    """Run one contestant on the job that arrives as JSON, and print what it marked as JSON."""
    asked = json.loads(sys.stdin.read())
    name, started = asked.pop("name"), asked.pop("started")
    job = Job(**asked, started=started)
    with contextlib.redirect_stdout(sys.stderr):
        CONTESTANTS[name].call(job)
    seconds = time.time() - started
    kept = ("steps", "epochs", "accuracies", "frozen_half")
    marked = {name: getattr(job, name) for name in kept} | {"seconds": seconds}
    print(json.dumps(marked), flush=True)


if __name__ == "__main__":
    main()
