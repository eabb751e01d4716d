"""Count multiply-adds and follow receptive fields while a model runs on tensors without data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

ELEMENTWISE = frozenset(
    [
        "relu",
        "relu_",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "softsign",
        "sigmoid",
        "tanh",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "prelu",
        "rrelu",
        "threshold",
        "clamp",
        "clip",
        "add",
        "sub",
        "mul",
        "div",
        "rsub",
        "neg",
        "abs",
        "exp",
        "log",
        "sqrt",
        "rsqrt",
        "square",
        "pow",
        "maximum",
        "minimum",
        "where",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "alpha_dropout",
        "feature_alpha_dropout",
        "batch_norm",
        "contiguous",
        "clone",
        "to",
        "type_as",
        "float",
        "half",
        "bfloat16",
        "detach",
        "pad",
        "constant_pad_nd",
        "stochastic_depth",
        "lerp",
        "addcmul",
        "requires_grad_",
        "channel_shuffle",
        "native_channel_shuffle",
        "local_response_norm",
        "nan_to_num",
    ]
)
# The names under which Python's operators and in-place forms reach torch.
_PLAIN = (
    {f"__{op}__": op for op in ("add", "sub", "mul", "neg", "pow", "abs")}
    | {f"__{side}{op}__": op for side in "ri" for op in ("add", "sub", "mul", "pow")}
    | {name: "div" for name in ("__truediv__", "__rtruediv__", "__itruediv__", "true_divide")}
)


class Multiplications(TorchDispatchMode):
    """Adds up the multiply-adds of every product and convolution that runs inside; read `total`."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += (
                formula(*args, **(kwargs or {}), out_val=out) // 2
            )  # a multiply-add is two operations
        return out


@dataclass(frozen=True)
class Reach:
    """What one value of a feature map sees: `field` pixels (height, width); neighbours are `jump` apart.

    `dims` are the tensor's dimensions along which height and width run.
    """

    dims: tuple[int, int]
    field: tuple[int, int] = (1, 1)
    jump: tuple[int, int] = (1, 1)

    def slide(self, kernel: Any, stride: Any, dilation: Any = 1) -> "Reach":
        """Return the reach after a window of this kernel, stride and dilation."""
        k, s, d = (_pair(v) for v in (kernel, stride, dilation))
        sides = [(self.field[i] + (k[i] - 1) * d[i] * self.jump[i], self.jump[i] * s[i]) for i in range(2)]
        return replace(self, field=(sides[0][0], sides[1][0]), jump=(sides[0][1], sides[1][1]))


def positions(tensor: Tensor, reach: Reach | None = None) -> int:
    """Return the number of spatial positions of an activation (N, …)."""
    if tensor.dim() <= 2:
        return 1
    if tensor.dim() != 4:
        return tensor.shape[1] if tensor.dim() == 3 else tensor[0, ..., 0].numel()
    dims = map_dims(tensor, reach)
    return tensor.shape[dims[0]] * tensor.shape[dims[1]]


def map_dims(tensor: Tensor, reach: Reach | None = None) -> tuple[int, int]:
    """Return the dimensions of height and width of a feature map (N, C, H, W) or (N, H, W, C)."""
    if reach is not None:
        return reach.dims
    return (1, 2) if tensor.shape[1] == tensor.shape[2] != tensor.shape[3] else (2, 3)


class Receptive(TorchFunctionMode):
    """Follows `Reach` from the image through every function; a value that sees the whole image has None.

    Attention, squeeze-and-excitation and everything that this class does not know mix the whole image in, as
    far as it can tell, so they end in None: what is reported is exact, never guessed.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        # Tensors are kept beside their reach, so that an id is never used twice.
        self.products = 0
        self._known: dict[int, tuple[Tensor, Reach | None]] = {id(image): (image, Reach(dims=(2, 3)))}

    def of(self, value: Any) -> Reach | None:
        """Return the reach of a tensor seen inside, None when it has none or sees everything."""
        return self._known.get(id(value), (None, None))[1]

    def _lstm(
        self, x: Tensor, state: Any, weights: Any, bias: bool, layers: int, drop: float, *flags: bool
    ) -> Any:
        """Return an LSTM's outputs without going through time, and note its multiply-adds."""
        _, bidirectional, _ = flags
        self.products += x.shape[0] * x.shape[1] * sum(w.numel() for w in weights if w.dim() == 2)
        width = state[0].shape[-1] * (2 if bidirectional else 1)
        return x.new_empty(*x.shape[:2], width), torch.empty_like(state[0]), torch.empty_like(state[1])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (func is torch.nn.functional.batch_norm or func is torch.batch_norm) and args[0].is_meta:
            out = torch.empty_like(args[0])  # without data, its shape is all there is, and far quicker
        elif _name(func) == "lstm" and args[0].is_meta:
            out = self._lstm(*args)
        else:
            out = func(*args, **kwargs)
        inputs = [t for t in _tensors((args, kwargs)) if id(t) in self._known]
        results = _tensors(out)
        if inputs and results:
            before = [self.of(t) for t in inputs]  # an in-place result is one of its own inputs
            for result in results:
                reach = None if None in before else _after(_name(func), before, inputs, args, kwargs, result)
                self._known[id(result)] = (result, reach)
        return out


def _name(func: Any) -> str:
    name = getattr(func, "__name__", "")
    name = _PLAIN.get(name, name)
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def _after(
    name: str, before: list[Any], inputs: list[Tensor], args: Any, kwargs: Any, out: Tensor
) -> Reach | None:
    """Return the reach of `out`, one result of function `name`."""
    first, x = before[0], inputs[0]
    if name in ELEMENTWISE or name in ("cat", "concat"):
        alike = all(r.dims == first.dims and r.jump == first.jump for r in before) and out.dim() == x.dim()
        along = name in ELEMENTWISE or all(out.shape[d] == x.shape[d] for d in first.dims)
        return _widest(before) if alike and along else None
    if len(before) > 1:
        return None
    if name in _WINDOWS:
        return first.slide(*_WINDOWS[name](args, kwargs)) if first.dims == (2, 3) and out.dim() == 4 else None
    if name == "adaptive_avg_pool2d":
        ratio = [x.shape[d] // out.shape[d] for d in first.dims]
        exact = all(out.shape[d] * r == x.shape[d] for d, r in zip(first.dims, ratio, strict=True))
        return first.slide(ratio, ratio) if exact and min(out.shape[-2:]) > 1 else None
    if name in ("linear", "layer_norm", "rms_norm", "normalize"):
        return first if x.dim() - 1 not in first.dims and x.dim() == 4 else None
    if name in ("permute", "transpose", "swapaxes", "movedim"):
        return _moved(first, x, out)
    if name in ("chunk", "split", "unbind", "__getitem__", "view", "reshape", "flatten", "narrow"):
        kept = out.dim() == x.dim() and all(out.shape[d] == x.shape[d] for d in (0, *first.dims))
        return first if kept and out.numel() <= x.numel() else None
    return None


def _moved(reach: Reach, x: Tensor, out: Tensor) -> Reach | None:
    """Return the reach after a permutation, read off the strides where they tell the dimensions apart."""
    if out.dim() != x.dim():
        return None
    keys = [(x.stride(d), x.shape[d]) for d in range(x.dim())]
    if len(set(keys)) < len(keys):
        return None
    after = [(out.stride(d), out.shape[d]) for d in range(out.dim())]
    return replace(reach, dims=(after.index(keys[reach.dims[0]]), after.index(keys[reach.dims[1]])))


def _widest(reaches: list[Reach]) -> Reach:
    return replace(reaches[0], field=tuple(max(r.field[i] for r in reaches) for i in range(2)))  # type: ignore[arg-type]


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


def _argument(args: Any, kwargs: Any, position: int, name: str, default: Any) -> Any:
    return kwargs.get(name, args[position] if len(args) > position else default)


def _convolution(args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
    weight = _argument(args, kwargs, 1, "weight", None)
    return (
        weight.shape[2:],
        _argument(args, kwargs, 3, "stride", 1),
        _argument(args, kwargs, 5, "dilation", 1),
    )


def _pool(dilated: bool) -> Callable[[Any, Any], tuple[Any, Any, Any]]:
    def window(args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
        kernel = _argument(args, kwargs, 1, "kernel_size", None)
        stride = _argument(args, kwargs, 2, "stride", None)
        dilation = _argument(args, kwargs, 4, "dilation", 1) if dilated else 1
        return kernel, kernel if stride in (None, [], ()) else stride, dilation

    return window


_WINDOWS: Mapping[str, Callable[[Any, Any], tuple[Any, Any, Any]]] = {
    "conv2d": _convolution,
    "max_pool2d": _pool(True),
    "boolean_dispatch": _pool(True),
    "avg_pool2d": _pool(False),
    "lp_pool2d": _pool(False),
}


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [t for v in value for t in _tensors(v)]
    if isinstance(value, dict):
        return [t for v in value.values() for t in _tensors(v)]
    return []
