"""What a stage is, and the list of them as a table."""

import html
from dataclasses import dataclass, field
from typing import Any

from ..errors import LearnerError, unknown


@dataclass(frozen=True)
class Stage:
    """One stage of a model; names are dotted, from the model's root.

    `modules` run in it, in this order; `parameters` and `buffers` are used in it first. `macs` are
    multiply-adds an image; shares are of the whole model, from 0 to 1. `output_shape` is of one image,
    without the batch dimension (a tuple of shapes where several tensors leave; stride and field are then
    those of the first). `stride` is how many pixels of the image lie between two neighbouring positions, None
    for vectors. `receptive_field` is how many pixels, along one side, can change one position; None where
    that is the whole image, through attention, squeeze-and-excitation or global pooling.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...] = field(repr=False)
    buffers: tuple[str, ...] = field(repr=False)
    num_params: int
    param_share: float
    macs: int
    macs_share: float
    output_shape: tuple[Any, ...]
    stride: int | None
    receptive_field: int | None


class Stages(list[Stage]):
    """The stages of a model, stem to head; prints as a table. `stages[0]`, or by name: `stages["stage2"]`."""

    model_name: str = ""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.names:
            raise self.unknown(key)
        return self[self.names.index(key)]

    @property
    def names(self) -> list[str]:
        """The stages' names, in order."""
        return [stage.name for stage in self]

    def unknown(self, name: object) -> LearnerError:
        """Return the error for a stage that is not there; for a module inside one, with where that begins."""
        inside = [s for s in self for m in s.modules if str(name) == m or str(name).startswith(f"{m}.")]
        hint = f"Stages: {', '.join(self.names)}."
        if inside:
            hint = f"{name} lies inside {inside[0].name}, which begins at {inside[0].modules[0]}. " + hint
        return unknown("stage", name, self.names, hint=hint)

    def _rows(self) -> list[list[str]]:
        return [
            [
                s.name,
                _short(s.modules),
                f"{s.num_params:,}",
                _bar(s.param_share),
                f"{s.macs / 1e6:,.1f} M",
                _bar(s.macs_share),
                " + ".join("×".join(map(str, shape)) for shape in _shapes(s.output_shape)),
                str(s.stride or "–"),
                str(s.receptive_field or "–"),
            ]
            for s in self
        ]

    def __repr__(self) -> str:
        rows = [_COLUMNS, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        lines = [
            "  ".join(
                cell.ljust(width) if i in _LEFT else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([self.model_name, *lines] if self.model_name else lines)

    def _repr_html_(self) -> str:
        def row(cells: list[str], tag: str) -> str:
            align = ["left" if i in _LEFT else "right" for i in range(len(cells))]
            return "".join(
                f'<{tag} style="text-align:{a};font-family:monospace">{html.escape(c)}</{tag}>'
                for a, c in zip(align, cells, strict=True)
            )

        body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in self._rows())
        caption = f"<caption>{html.escape(self.model_name)}</caption>" if self.model_name else ""
        return f"<table>{caption}<thead><tr>{row(_COLUMNS, 'th')}</tr></thead><tbody>{body}</tbody></table>"


_COLUMNS = [
    "stage",
    "modules",
    "parameters",
    "share",
    "multiply-adds",
    "share",
    "output",
    "stride",
    "sees (px)",
]
_LEFT = (0, 1, 3, 5)


def _bar(share: float) -> str:
    return "█" * round(share * 12) + f" {share:.1%}"


def _short(modules: tuple[str, ...]) -> str:
    return ", ".join(modules) if len(modules) < 3 else f"{modules[0]} … {modules[-1]}"


def _shapes(shape: tuple[Any, ...]) -> list[tuple[int, ...]]:
    return list(shape) if shape and isinstance(shape[0], tuple) else [shape]
