"""What is wrong with a model about to train: findings about its parts, its optimizer and its transform."""

from .audit import audit
from .finding import Audit, Finding

__all__ = ["Audit", "Finding", "audit"]
