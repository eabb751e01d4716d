"""Cards: what a data set is, where it comes from, what may be done with it, and how its splits are made."""

import html
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LearnerError, unknown

_HERE = Path(__file__).resolve()
# In a wheel the cards lie in the package; in a checkout they lie beside it, where people look for them.
_FOLDERS = (_HERE.parents[1] / "_cards", _HERE.parents[2] / "data")


@dataclass(frozen=True)
class Card:
    """One data set in words and numbers, as the files in `data/` describe it.

    Attributes:
        name: what `load` takes.
        title: its full name.
        what: what the images show.
        images: number of images in all splits; 0 means not counted.
        classes: names of the classes.
        licence: what may be done with it.
        citation: whom to cite.
        source: where it comes from.
        offline: whether it needs no network.
        split_rule: how train, val and test are made.
        similarity: how similar it is to ImageNet, in a word.
        similarity_why: the reason for that word.
        hash: SHA-256 of its content, `DatasetSplits.content_hash`; empty where it is not pinned.
        caveats: what to beware of.
    """

    name: str
    title: str
    what: str
    images: int
    classes: tuple[str, ...]
    licence: str
    citation: str
    source: str
    offline: bool
    split_rule: str
    similarity: str
    similarity_why: str
    hash: str = ""
    caveats: str = ""

    def __str__(self) -> str:
        return "\n".join(f"{label}: {value}" for label, value in self._rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left;vertical-align:top'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for label, value in self._rows()
        )
        return f"<table>{rows}</table>"

    def _rows(self) -> list[tuple[str, str]]:
        names = ", ".join(self.classes[:12]) + (
            f", … ({len(self.classes)} in all)" if len(self.classes) > 12 else ""
        )
        rows = [
            ("data set", f"{self.title} ({self.name})"),
            ("what", self.what),
            ("images", str(self.images) if self.images else "not counted"),
            ("classes", names),
            ("licence", self.licence),
            ("citation", self.citation),
            ("source", self.source + ("" if self.offline else " (needs a network once)")),
            ("splits", self.split_rule),
            ("similarity to ImageNet", f"{self.similarity}: {self.similarity_why}"),
            ("content", self.hash),
            ("mind", self.caveats),
        ]
        return [(label, " ".join(value.split())) for label, value in rows if value]


def card(name: str) -> Card:
    """Return the card of a data set.

    Args:
        name: as in `catalog`.

    Raises:
        LearnerError: there is no such data set; the nearest names are in the message.

    Example:
        >>> from tlutils import data
        >>> data.card("digits").images
        1797
    """
    cards = _files()
    if name not in cards:
        raise unknown("data set", name, cards)
    return _read(cards[name])


def catalog(*, offline: bool = False) -> list[Card]:
    """Return the cards of all data sets, by name.

    Args:
        offline: return only those that need no network.

    Example:
        >>> from tlutils import data
        >>> [card.name for card in data.catalog(offline=True)]
        ['digits', 'elpv-defects', 'elpv-wafers', 'mnist-5k', 'scenes']
    """
    return [c for c in map(_read, _files().values()) if c.offline or not offline]


def names() -> list[str]:
    """Return the names of the data sets that have a card."""
    return list(_files())


def _files() -> dict[str, Path]:
    for folder in _FOLDERS:
        found = {path.stem: path for path in sorted(folder.glob("*.toml"))}
        if found:
            return found
    raise LearnerError(
        f"The data cards are missing; looked in {' and '.join(map(str, _FOLDERS))}. Install tlutils again."
    )


def _read(path: Path) -> Card:
    values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return Card(name=path.stem, classes=tuple(values.pop("classes")), **values)
