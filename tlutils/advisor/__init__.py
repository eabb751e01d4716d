"""How much of a pretrained network to freeze, for your images: measured, with intervals, ties admitted."""

from .advice import Advice, advise
from .audit import Finding
from .policies import POLICIES, PROBES, make_recipe, settings_for, train_policy
from .race import Decision, Race, decide, survivors
from .tables import TABLES, PublishedTable, table_of

__all__ = [
    "POLICIES",
    "PROBES",
    "TABLES",
    "Advice",
    "Decision",
    "Finding",
    "PublishedTable",
    "Race",
    "advise",
    "decide",
    "make_recipe",
    "settings_for",
    "survivors",
    "table_of",
    "train_policy",
]
