"""AutoGluon, as its quick start for images, with the preset that fits a machine without a GPU."""

from pathlib import Path

import pandas as pd
from autogluon.multimodal import MultiModalPredictor


def table(split):
    files = sorted(Path("photographs", split).glob("*/*"))
    return pd.DataFrame(
        {"image": [str(file) for file in files], "label": [file.parent.name for file in files]}
    )


predictor = MultiModalPredictor(label="label", presets="medium_quality", path="model")
settings = {"model.timm_image.checkpoint_name": "backbone", "env.batch_size": 16}
predictor.fit(table("train"), hyperparameters=settings, time_limit=150)
print(predictor.evaluate(table("test"), metrics=["accuracy"]))
