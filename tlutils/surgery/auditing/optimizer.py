"""What an audit asks of an optimizer: does it move all that trains, once, and nothing else."""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn

from .finding import Finding, listed

_REMAKE = "Make the optimizer after freezing and after replacing the head: AdamW(param_groups(model, lr))."


def optimizer_findings(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Finding]:
    """Yield where the optimizer and the model's flags disagree."""
    parameters = dict(model.named_parameters())
    own = {id(p): name for name, p in parameters.items()}
    held = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    ids = {id(p) for p, _ in held}
    lacking = [n for n, p in parameters.items() if p.requires_grad and id(p) not in ids]
    if lacking:
        yield Finding(
            "optimizer-lacks",
            "error",
            listed(lacking),
            f"{len(lacking)} trainable tensors get gradients, but the optimizer does not know them: they "
            "stay as they are.",
            f"add_unfrozen(optimizer, model). {_REMAKE}",
        )
    strangers = sum(id(p) not in own for p, _ in held)
    if strangers:
        yield Finding(
            "optimizer-stranger",
            "error",
            type(optimizer).__name__,
            f"{strangers} tensors of the optimizer are not in this model (any more): the head was replaced, "
            "or the model copied, after the optimizer was made.",
            _REMAKE,
        )
    # Two parameters may be views of one memory, which then is moved twice.
    count = Counter((p.data_ptr(), p.device) for p, _ in held if p.numel() and not p.is_meta)
    twice = [own.get(id(p), "?") for p, _ in held if count[p.data_ptr(), p.device] > 1]
    if twice:
        yield Finding(
            "param-twice",
            "error",
            listed(list(dict.fromkeys(twice))),
            "The optimizer holds it twice, so each step moves it twice.",
            "param_groups(model, lr) gives each parameter to one group.",
        )
    frozen = [(own[id(p)], p, group) for p, group in held if id(p) in own and not p.requires_grad]
    moved = [(name, group) for name, p, group in frozen if p.grad is not None]
    if moved:
        decay = max(group.get("weight_decay", 0) for _, group in moved)
        causes = ["its last gradient is still there", *(["weight decay shrinks it"] if decay else [])]
        causes += (
            ["momentum carries it on"] if any(optimizer.state.get(parameters[n]) for n, _ in moved) else []
        )
        yield Finding(
            "optimizer-moves-frozen",
            "error",
            listed([name for name, _ in moved]),
            f"It is frozen, and each step would still move it: {', '.join(causes)}.",
            "freeze_to(model, from_stage) removes such gradients; or optimizer.zero_grad(set_to_none=True).",
        )
    still = [name for name, p, _ in frozen if p.grad is None]
    if still:
        yield Finding(
            "optimizer-holds-frozen",
            "note",
            listed(still),
            f"{len(still)} frozen tensors are in the optimizer. It leaves them alone as long as they have "
            "no gradient.",
            _REMAKE,
        )
