"""Follow, while a model runs, where height and width run in its activations and what a value sees."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ...inference import set_mode, twin

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
# What PyTorch works out step by step in Python for tensors without data; the shape of what goes in stays.
_SLOW_WITHOUT_DATA = ("batch_norm", "hardtanh", "relu", "relu6", "hardswish", "hardsigmoid", "gelu", "silu")
# The names under which Python's operators and in-place forms reach torch.
_PLAIN = (
    {f"__{op}__": op for op in ("add", "sub", "mul", "neg", "pow", "abs")}
    | {f"__{side}{op}__": op for side in "ri" for op in ("add", "sub", "mul", "pow")}
    | {name: "div" for name in ("__truediv__", "__rtruediv__", "__itruediv__", "true_divide")}
)


@dataclass(frozen=True)
class Reach:
    """Along which dimensions of a feature map height and width run, and what one of its values sees.

    `field` is how many pixels it sees (height, width), None for the whole image; neighbours lie `jump` pixels
    apart. Tokens that were a map of height and width `grid` have one dimension for both.
    """

    dims: tuple[int, int]
    field: tuple[int, int] | None = (1, 1)
    jump: tuple[int, int] = (1, 1)
    grid: tuple[int, int] | None = None

    def slide(self, kernel: Any, stride: Any, dilation: Any = 1) -> "Reach":
        """Return the reach after a window of this kernel, stride and dilation."""
        assert self.field is not None
        k, s, d = (_pair(v) for v in (kernel, stride, dilation))
        sides = [(self.field[i] + (k[i] - 1) * d[i] * self.jump[i], self.jump[i] * s[i]) for i in range(2)]
        return replace(self, field=(sides[0][0], sides[1][0]), jump=(sides[0][1], sides[1][1]))


def layout_of(shape: Sequence[int], image: Sequence[int], reach: Reach | None = None) -> str:
    """Return a letter for each dimension of an activation (N, …) of images (H, W) = `image`.

    "NCHW" and "NHWC" are feature maps, "NLC" is tokens, "NC" a vector. What the layers did tells where height
    and width are; where nothing does, the reading is taken whose strides are more alike in both directions.
    """
    if len(shape) == 3 and reach is not None and reach.dims == (2, 2):
        return "NCT"
    if len(shape) != 4:
        return ("N" + "L" * (len(shape) - 2) + "C")[: len(shape)]
    dims = reach.dims if reach is not None and 0 not in reach.dims else _likely_dims(shape, image)
    return "N" + "".join({dims[0]: "H", dims[1]: "W"}.get(d, "C") for d in (1, 2, 3))


def _likely_dims(shape: Sequence[int], image: Sequence[int]) -> tuple[int, int]:
    def skew(dims: tuple[int, int]) -> float:
        height, width = (shape[d] for d in dims)
        if height == width == 1:
            return -1
        fits = 0 < height <= image[0] and 0 < width <= image[1]
        return abs(math.log(image[0] / height / (image[1] / width))) if fits else math.inf

    return min((2, 3), (1, 2), key=skew)


def module_layouts(model: nn.Module, x: Tensor) -> dict[str, str]:
    """Return the layout of what each module gives on a batch, by the module's name; see `Stage.layout`.

    A module that is called several times has that of its last output; one that gives no tensor has none.

    Args:
        model: Any model that takes `x`; it stays as it is.
        x: A preprocessed batch (N, C, H, W), of which the first image passes the model in evaluation mode.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from tlutils import surgery
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> surgery.module_layouts(net, torch.zeros(1, 3, 16, 16))
        {'0': 'NCHW', '1': 'NCHW', '2': 'NC', '3': 'NC', '': 'NC'}
    """
    found: dict[str, str] = {}
    image = x[:1]
    receptive = Receptive(image)

    def noting(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found[name] = layout_of(output.shape, image.shape[2:], receptive.of(output))

        return note

    with twin(model) as copy:
        set_mode(copy, training=False)
        watched = [(n, m) for n, m in copy.named_modules() if not isinstance(m, torch.jit.ScriptModule)]
        for name, module in watched:
            module.register_forward_hook(noting(name))
        with torch.no_grad(), receptive:
            copy(image)
    return found


def positions(shape: Sequence[int], layout: str) -> int:
    """Return how many places an activation tells apart: height x width, tokens, or 1 for a vector."""
    return math.prod(n for n, letter in zip(shape, layout, strict=True) if letter not in "NC")


class Receptive(TorchFunctionMode):
    """Follows `Reach` from the image through every function; None where nothing tells height from width.

    Attention, squeeze-and-excitation and everything that this class does not know mix the whole image in, as
    far as it can tell, so the field ends there: what is reported is exact, never guessed.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        # Tensors are kept beside their reach, so that an id is never used twice.
        self.products = 0
        self._known: dict[int, tuple[Tensor, Reach | None]] = {id(image): (image, Reach(dims=(2, 3)))}

    def of(self, value: Any) -> Reach | None:
        """Return the reach of a tensor seen inside, None when it has none."""
        return self._known.get(id(value), (None, None))[1]

    def _lstm(
        self, x: Tensor, state: Any, weights: Any, bias: bool, layers: int, drop: float, *flags: bool
    ) -> Any:
        """Return an LSTM's outputs without going through time, and note its multiply-adds."""
        _, bidirectional, _ = flags
        self.products += x.shape[0] * x.shape[1] * sum(w.numel() for w in weights if w.dim() == 2)
        width = state[0].shape[-1] * (2 if bidirectional else 1)
        return x.new_empty(*x.shape[:2], width), torch.empty_like(state[0]), torch.empty_like(state[1])

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return a linear layer's output, also quicker by its shape, and note its multiply-adds."""
        if (weight.shape[1:], weight.dtype) != (x.shape[-1:], x.dtype):
            return functional.linear(x, weight, bias)  # which says what is wrong
        self.products += x.numel() * weight.shape[0]
        return x.new_empty(*x.shape[:-1], weight.shape[0])

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *options: Any, **named: Any
    ) -> Tensor:
        """Return what attention gives, also quicker by its shape, and note its multiply-adds."""
        fits = query.shape[:-2] == key.shape[:-2] and query.shape[-1] == key.shape[-1]
        if attn_mask is not None or not fits or key.shape[:-1] != value.shape[:-1]:
            # which says what is wrong, if anything
            return functional.scaled_dot_product_attention(query, key, value, attn_mask, *options, **named)
        self.products += query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
        return query.new_empty(*query.shape[:-1], value.shape[-1])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _name(func) in _SLOW_WITHOUT_DATA and args and args[0].is_meta:
            # Its shape is all there is; that it is written to counts, not what is written.
            out = args[0].zero_() if _in_place(func, args, kwargs) else torch.empty_like(args[0])
        elif _name(func) == "lstm" and args[0].is_meta:
            out = self._lstm(*args)
        elif func is functional.linear and args and args[0].is_meta:
            out = self._linear(*args, **kwargs)
        elif func is functional.scaled_dot_product_attention and args and args[0].is_meta:
            out = self._attention(*args, **kwargs)
        elif func is functional.layer_norm and args and args[0].is_meta:
            out = _layer_norm(*args, **kwargs)
        else:
            out = func(*args, **kwargs)
        inputs = [t for t in tensors((args, kwargs)) if id(t) in self._known]
        results = tensors(out)
        if inputs and results:
            before = [self.of(t) for t in inputs]  # an in-place result is one of its own inputs
            for result in results:
                reach = _after(func, before, inputs, args, kwargs, result)
                self._known[id(result)] = (result, reach)
        return out


def _name(func: Any) -> str:
    name = getattr(func, "__name__", "")
    name = _PLAIN.get(name, name)
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def _layer_norm(x: Tensor, normalized_shape: Sequence[int], *options: Any, **named: Any) -> Tensor:
    """Return a layer's normalised output, also quicker by its shape."""
    if x.shape[x.dim() - len(normalized_shape) :] != tuple(normalized_shape):
        return functional.layer_norm(x, normalized_shape, *options, **named)  # which says what is wrong
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _in_place(func: Any, args: Any, kwargs: Any) -> bool:
    if func.__name__.endswith("_") or kwargs.get("inplace", False):
        return True
    return _name(func) != "batch_norm" and any(value is True for value in args[1:])


def _after(
    func: Any, before: list[Reach | None], inputs: list[Tensor], args: Any, kwargs: Any, out: Tensor
) -> Reach | None:
    """Return the reach of `out`, one result of a function."""
    name = _name(func)
    known = [reach for reach in before if reach is not None]
    if name in _MOVES:
        return _moved(func, known[0], args, kwargs) if known and args and inputs[0] is args[0] else None
    local = all(reach is not None and reach.field is not None for reach in before)
    exact = _local(name, known, inputs, args, kwargs, out) if local else None
    if exact is not None:
        return exact
    if out.dim() == 4 and (name in _WINDOWS or name in _CHANNELS_FIRST):
        return Reach((2, 3), None)
    for reach, x in zip(before, inputs, strict=True):
        alike = x.dim() == out.dim() and reach is not None
        if alike and all(out.shape[d] == x.shape[d] for d in (0, *reach.dims)):  # type: ignore[union-attr]
            return replace(reach, field=None)  # type: ignore[type-var]
    if name in ("view", "reshape", "flatten", "unflatten"):
        return _folded(known[0], inputs[0], out) if known else None
    if out.dim() != 4:
        return None
    width = _argument(args, kwargs, 1, "normalized_shape", ())
    last = name == "linear" or (name in ("layer_norm", "rms_norm") and len(width) == 1)
    return Reach((1, 2), None) if last else None


def _local(
    name: str, before: list[Reach], inputs: list[Tensor], args: Any, kwargs: Any, out: Tensor
) -> Reach | None:
    """Return the reach of `out` where a part of the image makes each of its values, else None."""
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
    if name in _LAST_AXIS:
        return first if x.dim() - 1 not in first.dims and x.dim() == 4 else None
    if name in ("chunk", "split", "unbind", "__getitem__", "view", "reshape", "flatten", "narrow"):
        kept = out.dim() == x.dim() and all(out.shape[d] == x.shape[d] for d in (0, *first.dims))
        return first if kept and out.numel() <= x.numel() else None
    return None


_MOVES = ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis")
_LAST_AXIS = ("linear", "layer_norm", "rms_norm", "normalize")
_CHANNELS_FIRST = (
    "batch_norm",
    "group_norm",
    "instance_norm",
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "conv_transpose2d",
)


def _moved(func: Any, reach: Reach, args: Any, kwargs: Any) -> Reach | None:
    """Return the reach after a permutation, by doing the same to a tensor whose sides are all different."""
    marks = torch.empty(*range(2, 2 + args[0].dim()), device="meta")
    after = list(func(marks, *args[1:], **kwargs).shape)
    return replace(
        reach, dims=(after.index(marks.shape[reach.dims[0]]), after.index(marks.shape[reach.dims[1]]))
    )


def _folded(reach: Reach, x: Tensor, out: Tensor) -> Reach | None:
    """Return the reach after a map became a row of tokens, or tokens a map again."""
    a, b = reach.dims
    if out.shape[0] != x.shape[0]:
        return None
    if (x.dim(), out.dim(), b) == (4, 3, a + 1) and out.shape[a] == x.shape[a] * x.shape[b]:
        return Reach((a, a), None, grid=(x.shape[a], x.shape[b]))
    if reach.grid is not None and out.dim() == 4 and tuple(out.shape[a : a + 2]) == reach.grid:
        return Reach((a, a + 1), None)
    return None


def _widest(reaches: list[Reach]) -> Reach:
    fields = [reach.field for reach in reaches if reach.field is not None]
    return replace(reaches[0], field=(max(f[0] for f in fields), max(f[1] for f in fields)))


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a value, looking into lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):  # a union of types takes three times as long
        return []
    return [t for v in value for t in tensors(v)]


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
