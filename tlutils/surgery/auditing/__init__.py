"""What is wrong with a model about to train: findings about its parts, its optimizer and its transform."""

from .audit import Audit, audit
from .findings import Finding

__all__ = ["Audit", "Finding", "audit"]
