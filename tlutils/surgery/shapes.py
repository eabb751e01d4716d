"""What kind of module this is, and how an activation is laid out."""

from torch import Tensor, nn

from .measure import Reach

LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def kind(module: nn.Module) -> str:
    """Return "layer" (at most one weight, or a short chain of layers), "container" (of blocks) or "block"."""
    weights = sum(
        1 for m in module.modules() for p in m._parameters.values() if p is not None and p.dim() > 1
    )
    children = list(module.children())
    if weights <= 1:
        return "layer"
    if isinstance(module, LISTS):
        return "layer" if weights <= 3 and all(kind(c) == "layer" for c in children) else "container"
    size = size_of(module)
    for child in children:
        if (
            isinstance(child, LISTS)
            and size_of(child) > 0.8 * size
            and all(kind(c) != "layer" for c in child.children())
        ):
            return "container"
    return "block"


def size_of(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in module.parameters())


def positions(tensor: Tensor, reach: Reach | None = None) -> int:
    """Return the number of spatial positions of an activation (N, …)."""
    if tensor.dim() <= 2:
        return 1
    if tensor.dim() != 4:
        return tensor.shape[1] if tensor.dim() == 3 else tensor[0, ..., 0].numel()
    dims = map_dims(tensor, reach)
    return tensor.shape[dims[0]] * tensor.shape[dims[1]]


def map_dims(tensor: Tensor, reach: Reach | None = None) -> tuple[int, int]:
    """Return the dimensions of height and width of a map (N, C, H, W) or (N, H, W, C)."""
    if reach is not None:
        return reach.dims
    return (1, 2) if tensor.shape[1] == tensor.shape[2] != tensor.shape[3] else (2, 3)
