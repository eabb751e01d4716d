"""Answers to the exercises of lesson 00: check -> (answer, word of what is said of it)."""

from tlutils import models, surgery
from tlutils.checks import lesson_00

ANSWERS = {}


def head_size(answer):
    lesson_00.check_head_size(answer, features=1280, classes=10)


ANSWERS[head_size] = [
    (None, "Not answered"),
    (12_810, "Right"),
    (12_800, "bias for each class"),
    (1_290, "pair"),
    (14_080, "what comes out"),
    (12_801, "not one for all"),
    (7, "Draw the matrix"),
]


def frozen_before(freeze):
    model = models.load("resnet18", pretrained=False, num_classes=2, input_size=64)
    freeze(model)
    lesson_00.check_frozen_before_last_stage(model)


ANSWERS[frozen_before] = [
    (lambda model: None, "Nothing is frozen"),
    (lambda model: model.conv1.requires_grad_(False), "BatchNorm drifts"),
    (lambda model: surgery.freeze_to(model, "stage3"), "too little"),
    (lambda model: surgery.freeze_to(model, "head"), "too much"),
    (lambda model: model.requires_grad_(False), "nothing can learn"),
    (lambda model: surgery.freeze_to(model, "stage4"), "Right"),
]
