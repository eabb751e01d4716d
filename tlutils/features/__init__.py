"""Features of images: the output of any stages of a network, computed once per image and kept on disk."""

from .extraction import extract
from .reading import as_rows, check_rows, groups_of, make_predictor
from .store import FeatureStore, NoRoom

__all__ = ["FeatureStore", "NoRoom", "as_rows", "check_rows", "extract", "groups_of", "make_predictor"]
