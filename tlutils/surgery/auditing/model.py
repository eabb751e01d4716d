"""What an audit asks of the model itself: does the head fit, is what should be still still."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from torch import nn

from ...inference import mirror
from ...models import layers
from ..freeze import PRINTS, record, take_prints
from .effects import Effects, find_frozen
from .finding import Finding, listed

_HOOKS = "forward", "forward_pre", "backward", "backward_pre"


def trial_findings(model: nn.Module, trial: layers.Layers, num_classes: int | None) -> Iterator[Finding]:
    """Yield what a forward pass gave away."""
    width = trial.logits.shape[1]
    head = listed(trial.heads)
    if num_classes is not None and width != num_classes:
        yield Finding(
            "head-width",
            "error",
            head,
            f"The model gives {width} scores per image, and you have {num_classes} classes.",
            f"replace_head(model, {num_classes})",
        )
    elif width == 1:
        yield Finding(
            "single-score",
            "warning",
            head,
            "The model gives one score. Softmax over one number is always 1, so cross-entropy is always 0.",
            "replace_head(model, 2), or train with binary_cross_entropy_with_logits on scores of shape (N,).",
        )
    if trial.reentrant:
        yield Finding(
            "reentrant-checkpoint",
            "warning",
            type(model).__name__,
            "Re-entrant gradient checkpointing gives no gradient to layers whose input needs none, "
            "as after a frozen part.",
            "torch.utils.checkpoint.checkpoint(..., use_reentrant=False)",
        )
        return
    unused = [n for n, p in model.named_parameters() if p.requires_grad and n not in trial.reached]
    if unused:
        where = list(dict.fromkeys(name.rpartition(".")[0] or name for name in unused))
        yield Finding(
            "never-used",
            "error",
            listed(where),
            "No output depends on it, so it cannot learn. A layer assigned under a name that the model's "
            "forward does not call, as in model.fc = ..., changes nothing; the class scores come from "
            f"{head}.",
            "Remove it, and put a new head where the model keeps it: replace_head(model, num_classes).",
        )


def model_findings(model: nn.Module, *, training: bool) -> Iterator[Finding]:
    """Yield what its flags, hooks, shared weights and mode give away."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if not any(p.requires_grad for p in parameters.values()):
        yield Finding(
            "nothing-trains",
            "error",
            type(model).__name__,
            "Every parameter is frozen, so training cannot change anything.",
            "freeze_to(model, 'head') lets the head train, unfreeze(model, '*') all.",
        )
    yield from _stray_flags(model)
    yield from _half_tied(model, parameters)
    hooked = [
        name or type(model).__name__ for name, m in model.named_modules() if layers.hooks_of(m, *_HOOKS)
    ]
    hooked += [n for n, p in parameters.items() if p._backward_hooks]
    if hooked:
        yield Finding(
            "hooks-left",
            "warning",
            listed(hooked),
            "Hooks hang on it: functions that run at every pass, may change what flows, and keep memory.",
            "Call .remove() on the handle that register_..._hook returned, best in a finally block.",
        )
    if not model.training:
        yield Finding(
            "eval-mode",
            "warning" if training else "note",
            type(model).__name__,
            "The model is in eval mode: in training, dropout would be off, and BatchNorm would not adapt.",
            "Call model.train() before training; what is frozen by freeze_to stays in eval mode.",
        )


def effect_findings(model: nn.Module, effects: Effects) -> Iterator[Finding]:
    """Yield where the scores of an image depend on more than the image, and frozen stages on the mode."""
    here = type(model).__name__
    if effects.random:
        yield Finding(
            "random-in-eval",
            "warning",
            listed([name or here for name in effects.random]),
            "It draws random numbers in evaluation mode, too: one image gives other scores at every pass, "
            "and features kept of it are those of one draw.",
            "Pass training=self.training to F.dropout, or use nn.Dropout, which model.eval() switches off.",
        )
    if effects.mixing:
        yield Finding(
            "batch-dependent",
            "warning",
            listed([name or here for name in effects.mixing]),
            "In evaluation mode, what it gives for an image depends on the other images of the batch, on "
            "their number, or on those that came before.",
            "BatchNorm uses its running statistics in eval mode if it keeps them (track_running_stats=True); "
            "F.batch_norm with training=self.training.",
        )
    if effects.changing:
        yield Finding(
            "mode-dependent",
            "warning",
            listed([name or f"the forward of {here}" for name in effects.changing]),
            "It lies in the frozen part and gives other values in training mode than in evaluation mode.",
            "Put what depends on self.training into a module of its own, which freeze_to holds in eval mode.",
        )


def freeze_findings(model: nn.Module, effects: Effects) -> Iterator[Finding]:
    """Yield where the frozen part is not still, or has moved; note its fingerprint on the model."""
    last = record(model)
    flags = {n: p.requires_grad for n, p in model.named_parameters(remove_duplicate=False)}
    loose = [name for name in last.parameters if flags.get(name)] if last else []
    if last and loose:
        yield Finding(
            "not-frozen",
            "error",
            listed(loose),
            "It was frozen, and would train: its requires_grad was set to True since.",
            f"freeze_to(model, {last.from_stage!r})" if last.from_stage else "Call freeze(model, ...) again.",
        )
    here = f"the forward of {type(model).__name__}"
    still_to_hold = _alive(model)
    drifting, dropping = (
        list(dict.fromkeys([*seen, *(name or here for name in tried)]))
        for seen, tried in zip(still_to_hold, (effects.drifting, effects.dropping), strict=True)
    )
    if drifting:
        yield Finding(
            "bn-drift",
            "error",
            listed(drifting),
            "Its weights are frozen, but in training mode it would go on averaging your images into its "
            "running mean and variance: the frozen features would drift. eval() alone is undone by the "
            "next model.train().",
            "freeze_to(model, from_stage) holds the statistics, too."
            if still_to_hold[0]
            else "F.batch_norm in a forward that reaches across the cut goes on: use an nn.BatchNorm2d.",
        )
    if dropping and not (last and last.keep_dropout):
        yield Finding(
            "dropout-active",
            "warning",
            listed(dropping),
            "It lies in the frozen part and would drop values at random: the same image would give other "
            "features at every pass.",
            "freeze_to(model, from_stage) switches it off; keep_dropout=True says that you want it."
            if still_to_hold[1]
            else "F.dropout in a forward that reaches across the cut goes on: use an nn.Dropout.",
        )
    if last and last.shared:
        yield Finding(
            "dropout-shared",
            "note",
            listed(last.shared),
            "The model uses it before and after the cut. It is off in the frozen part, and so it is in "
            "the rest.",
            "Give each place its own dropout layer, or say keep_dropout=True.",
        )
    before = dict(getattr(model, PRINTS, {}))
    now = take_prints(model)
    moved = [name for name, value in now.items() if before.get(name, value) != value]
    if moved:
        yield Finding(
            "frozen-changed",
            "error",
            listed(moved),
            "It is frozen, but its values have changed since the last audit, or since it was frozen.",
            "Look for what wrote into it: an optimizer, BatchNorm, an average of weights. If you loaded "
            "weights since, all is well: audit once more.",
        )


def _alive(model: nn.Module) -> tuple[list[str], list[str]]:
    """Return the frozen BatchNorm and dropout layers that `model.train()` would set to work."""
    with mirror(model, meta=True) as copy:
        copy.train()
        woken = {name for name, m in copy.named_modules() if m.training}
    woken &= find_frozen(model)
    frozen = [(name, module) for name, module in model.named_modules() if name in woken]
    drifting = [n for n, m in frozen if getattr(m, "running_mean", None) is not None]
    return drifting, [n for n, m in frozen if layers.is_dropout(m) and layers.drop_rate(m) > 0]


def _stray_flags(model: nn.Module) -> Iterator[Finding]:
    for name, module in model.named_modules():
        for flag in vars(module):
            if flag == "requires_grad" or flag == "trainable" or _resembles(flag):
                yield Finding(
                    "stray-flag",
                    "error",
                    name or type(model).__name__,
                    f"{flag} was set on a module, where it does nothing: its parameters decide for "
                    "themselves.",
                    f"freeze(model, {name or '*'!r}), or module.requires_grad_(False), with the underscore.",
                )
    for name, parameter in model.named_parameters():
        for flag in vars(parameter):
            if flag in ("trainable", "freeze", "frozen") or _resembles(flag):
                yield Finding(
                    "stray-flag",
                    "error",
                    name,
                    f"{flag} was set on a parameter, where it does nothing: the flag is called "
                    "requires_grad.",
                    f"freeze(model, {name!r})",
                )


def _resembles(flag: str) -> bool:
    return flag != "requires_grad" and bool(get_close_matches(flag, ["requires_grad"], cutoff=0.8))


def _half_tied(model: nn.Module, parameters: dict[str, nn.Parameter]) -> Iterator[Finding]:
    shared: dict[Any, list[str]] = {}
    for name, p in parameters.items():
        if p.numel() and not p.is_meta:
            shared.setdefault((p.data_ptr(), p.device), []).append(name)
    tied = [names for names in shared.values() if len(names) > 1]
    for names in tied:
        flags = {parameters[n].requires_grad for n in names}
        around = {flag for n in names for flag in _around(model, n, {n for ns in tied for n in ns})}
        if len(flags) == 2 or (around == {True, False} and flags != {True}):
            yield Finding(
                "tied-half-frozen",
                "error",
                " = ".join(names),
                "These names share one weight. It is frozen under one and is to train under another.",
                "Freeze both or neither: freeze_to at a stage before both or after both.",
            )


def _around(model: nn.Module, name: str, tied: set[str]) -> set[bool]:
    """Return whether the other parameters of the nearest module around `name` train; empty if they differ."""
    while name:
        name = name.rpartition(".")[0]
        own = model.get_submodule(name).named_parameters(prefix=name)
        flags = {p.requires_grad for n, p in own if n not in tied}
        if flags:
            return flags if len(flags) == 1 else set()
    return set()
