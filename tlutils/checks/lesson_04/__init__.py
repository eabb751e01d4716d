"""Checks of the exercises in lesson 04, full finetuning."""

from .loop import check_loop
from .steps import (
    RANGE_TEST,
    check_accumulate,
    check_class_weights,
    check_discriminative,
    check_range_test,
    check_reading,
)

__all__ = [
    "RANGE_TEST",
    "check_accumulate",
    "check_class_weights",
    "check_discriminative",
    "check_loop",
    "check_range_test",
    "check_reading",
]
