"""fastai, as its tutorial on pets: cropped and augmented, the head first, then everything."""

# ruff: noqa: F403, F405
from fastai.vision.all import *

photographs = ImageDataLoaders.from_folder(
    "photographs", valid="test", item_tfms=Resize(460), batch_tfms=aug_transforms(size=224), bs=16
)
learner = vision_learner(photographs, "local-dir:backbone", metrics=accuracy)
learner.fine_tune(2)
learner.export("model.pkl")
print("accuracy:", learner.validate()[1])
