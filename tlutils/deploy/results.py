"""What a finished model is told of, in its report and on its card."""

from dataclasses import dataclass
from typing import Any

from .judging import Judgement


@dataclass(frozen=True)
class ShownSuspect:
    """An image whose label looks wrong, with its picture as a JPEG."""

    name: str
    label: str
    suggested: str
    probability: float
    picture: bytes


@dataclass(frozen=True, eq=False)
class Results:
    """Everything that the report and the card say: plain values, and pictures as JPEG."""

    name: str
    backbone: str
    weights: str
    classes: list[str]
    counts: dict[str, list[int]]  # split: images of each class
    split_rule: str
    problems: list[tuple[str, str]]  # file, what was noted
    doubts: list[str]
    judgement: Judgement | None
    suspects: list[ShownSuspect]
    suspects_words: str
    novelty: str
    trained: str
    preprocessing: dict[str, Any]
