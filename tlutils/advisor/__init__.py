"""How much of a pretrained network to freeze, for your images: measured, with intervals, ties admitted."""

from .advice import Advice
from .images import ImageFinding
from .measuring import advise
from .policies import POLICIES
from .race import Decision, decide
from .tables import TABLES, PublishedTable

__all__ = [
    "POLICIES",
    "TABLES",
    "Advice",
    "Decision",
    "ImageFinding",
    "PublishedTable",
    "advise",
    "decide",
]
