"""Features of images: the output of any stages of a network, computed once per image and kept on disk."""

from .extraction import extract
from .store import FeatureStore

__all__ = ["FeatureStore", "extract"]
