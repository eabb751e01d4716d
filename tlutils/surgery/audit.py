"""Check that a model will do in training what its user thinks: the frozen part still, the rest moving."""

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import LearnerError
from ..models.metadata import require_module
from .audit_input import input_findings
from .audit_model import freeze_findings, model_findings, trial_findings
from .audit_optimizer import optimizer_findings
from .findings import Finding
from .freeze import frozen_to, is_held
from .kinds import is_norm
from .trial import Trial, try_out

_MARKS = {"error": "✗", "warning": "!", "note": "·"}


@dataclass(frozen=True)
class Audit:
    """What an audit found, worst first, and in `summary` what the model is. True when there is nothing to
    mend.

    `codes` are short and stable, so that code can ask for them: `"bn-drift" in found.codes`.
    """

    summary: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error and no warning."""
        return all(f.severity == "note" for f in self.findings)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make a result wrong."""
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def codes(self) -> set[str]:
        """The codes of all findings."""
        return {f.code for f in self.findings}

    def __bool__(self) -> bool:
        return self.ok

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __repr__(self) -> str:
        lines = [self.summary, *([] if self.findings else ["Nothing to mend."])]
        for f in self.findings:
            lines += [
                f"{_MARKS[f.severity]} {f.severity} {f.code} ({f.module}): {f.message}",
                f"    Fix: {f.fix}",
            ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{_MARKS[f.severity]} {f.severity}</td><td><code>{f.code}</code></td>"
            f"<td><code>{html.escape(f.module)}</code></td>"
            f'<td style="text-align:left">{html.escape(f.message)}<br><b>Fix:</b> {html.escape(f.fix)}</td>'
            "</tr>"
            for f in self.findings
        )
        head = "<tr><th></th><th>code</th><th>where</th><th>what</th></tr>"
        table = f"<table>{head}{rows}</table>" if rows else "<p>Nothing to mend.</p>"
        return f"<p>{html.escape(self.summary)}</p>{table}"


def audit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    num_classes: int | None = None,
    transform: Callable[[Any], torch.Tensor] | None = None,
) -> Audit:
    """Return what is wrong with a model that is about to train, each finding with its fix.

    Give the `optimizer`, the number of classes of your images and the `transform` of your images, to have
    them checked against the model. The model is tried on two small random images; neither its weights,
    buffers and modes nor the random generators change. A fingerprint of the frozen tensors is noted on it:
    the next audit says whether they moved since. Raises LearnerError for what is no torch module.
    """
    bare = require_module(model)
    trial: Trial | None = None
    findings: list[Finding] = []
    try:
        trial = try_out(bare)
    except LearnerError as error:
        findings.append(
            Finding(
                "not-tried", "warning", type(bare).__name__, str(error), "Mend this first; then audit again."
            )
        )
    if trial is not None:
        findings += trial_findings(bare, trial, num_classes)
    findings += model_findings(bare, training=optimizer is not None)
    findings += freeze_findings(bare)
    if optimizer is not None:
        findings += optimizer_findings(bare, optimizer)
    if transform is not None:
        findings += input_findings(bare, transform)
    findings.sort(key=lambda f: list(_MARKS).index(f.severity))
    return Audit(_summary(bare, trial), tuple(findings))


def _summary(model: nn.Module, trial: Trial | None) -> str:
    heads, dropouts = (trial.heads, trial.dropouts) if trial else ([], [])
    words = [type(model).__name__]
    for name in heads:
        weight: Any = model.get_submodule(name).weight
        words.append(f"head {name}: {weight.shape[1]} to {weight.shape[0]}")
    words += [f"dropout {name}: {model.get_submodule(name).p}" for name in dropouts]
    total = sum(p.numel() for p in model.parameters())
    free = sum(p.numel() for p in model.parameters() if p.requires_grad)
    words.append(f"{free:,} of {total:,} parameters train")
    norms = sum(is_held(m) for m in model.modules() if is_norm(m))
    if norms:
        words.append(f"frozen to {frozen_to(model) or 'a pattern'}, {norms} norm layers held")
    return "; ".join(words)
