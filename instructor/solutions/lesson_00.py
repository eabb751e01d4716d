"""Worked solutions of lesson 00: run it, and each check says that it is right."""

from tlutils import models, surgery
from tlutils.checks import lesson_00

features, classes = 1280, 10
lesson_00.check_head_size((features + 1) * classes, features=features, classes=classes)

model = models.load("resnet18", pretrained=False, num_classes=2, input_size=64)
lesson_00.check_frozen_before_last_stage(surgery.freeze_to(model, "stage4"))
