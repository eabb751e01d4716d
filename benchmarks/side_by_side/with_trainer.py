"""Hugging Face's Trainer, as their guide to image classification, judged once, at the end."""

from datasets import load_dataset
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

photographs = load_dataset("imagefolder", data_dir="photographs")
names = photographs["train"].features["label"].names
processor = AutoImageProcessor.from_pretrained("backbone")
model = AutoModelForImageClassification.from_pretrained(
    "backbone",
    num_labels=len(names),
    id2label=dict(enumerate(names)),
    label2id={name: number for number, name in enumerate(names)},
    ignore_mismatched_sizes=True,
)


def prepared(split, transform):
    def apply(batch):
        images = [transform(image.convert("RGB")) for image in batch["image"]]
        return {"pixel_values": images, "labels": batch["label"]}

    return photographs[split].with_transform(apply)


def compute_metrics(judged):
    return {"accuracy": (judged.predictions.argmax(axis=1) == judged.label_ids).mean()}


trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "model",
        remove_unused_columns=False,
        learning_rate=3e-4,
        per_device_train_batch_size=16,
        num_train_epochs=3,
    ),
    train_dataset=prepared("train", processor.train_transforms),
    eval_dataset=prepared("test", processor.val_transforms),
    compute_metrics=compute_metrics,
)
trainer.train()
trainer.save_model()
print(trainer.evaluate())
