"""Checks of assignment 03, visualizing networks: each raises `Mistake`, or says that all is right."""

from .visualizing import check_class_image, check_experiment, check_fool, check_saliency

__all__ = ["check_class_image", "check_experiment", "check_fool", "check_saliency"]
