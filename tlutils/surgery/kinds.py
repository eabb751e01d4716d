"""Which kind of layer a module is: norm, dropout."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a norm layer: BatchNorm, LayerNorm, GroupNorm, or one that is named so."""
    if isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm):
        return True
    own = list(module.parameters())
    return "norm" in type(module).__name__.lower() and bool(own) and all(p.squeeze().ndim < 2 for p in own)


def is_dropout(module: nn.Module) -> bool:
    """Return whether a module drops values or paths at random in training."""
    name = type(module).__name__
    return "Drop" in name or name == "StochasticDepth"


def drop_rate(module: nn.Module) -> float:
    """Return the share that a dropout layer drops, from 0 to 1; 0 where it states none."""
    rates = (getattr(module, name, None) for name in ("p", "drop_prob", "prob"))
    return next((float(rate) for rate in rates if isinstance(rate, int | float)), 0.0)
