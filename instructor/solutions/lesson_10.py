"""Worked solutions of lesson 10: run it, and each check says that it is right."""

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from tlutils.checks import lesson_10


def replace_head(model, classes):
    if hasattr(model, "reset_classifier"):
        model.reset_classifier(classes)
    elif hasattr(model, "fc"):
        model.fc = nn.Linear(model.fc.in_features, classes)
    else:
        model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, classes)
    return model


def last_linear(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def replace_head_by_search(model, classes):
    name = last_linear(model)
    model.set_submodule(name, nn.Linear(model.get_submodule(name).in_features, classes))
    return model


def replace_head_with_dropout(model, classes):
    name = last_linear(model)
    new = nn.Sequential(nn.Dropout(0.2), nn.Linear(model.get_submodule(name).in_features, classes))
    model.set_submodule(name, new)
    return model


def freeze_backbone(model, head):
    model.requires_grad_(False)
    head.requires_grad_(True)
    for module in model.modules():
        if not set(module.modules()) & set(head.modules()):  # neither the head nor around it
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model


def freeze_backbone_by_its_train(model, head):
    model.requires_grad_(False)
    head.requires_grad_(True)

    def train(mode=True):
        model.training = mode
        for module in model.children():
            module.train(mode and module is head)
        return model

    model.train = train
    return model


def parameter_groups(model, head, lr, head_lr):
    own = list(head.parameters())
    rest = [p for p in model.parameters() if all(p is not q for q in own)]
    return [{"params": rest, "lr": lr}, {"params": own, "lr": head_lr}]


def parameter_groups_one_each(model, head, lr, head_lr):
    own = set(head.parameters())
    return [{"params": p, "lr": head_lr if p in own else lr} for p in model.parameters()]


def one_epoch(model, train_loader, val_loader, optimizer):
    model.train()
    total = 0.0
    for images, labels in train_loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    model.eval()
    with torch.no_grad():
        right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in val_loader)
    return total / len(train_loader.dataset), right / len(val_loader.dataset)


def one_epoch_by_sums(model, train_loader, val_loader, optimizer):
    model.train(True)
    losses, images = [], []
    for batch, labels in train_loader:
        for p in model.parameters():
            p.grad = None
        loss = F.nll_loss(model(batch).log_softmax(1), labels, reduction="sum")
        (loss / len(labels)).backward()
        optimizer.step()
        losses.append(loss.detach())
        images.append(len(labels))
    model.train(False)
    with torch.inference_mode():
        hits = torch.cat([model(batch).softmax(1).argmax(-1) == labels for batch, labels in val_loader])
    return torch.stack(losses).sum() / sum(images), hits.float().mean()


@torch.no_grad()
def predict_name(model, classes, prepare, path):
    image = prepare(Image.open(path).convert("RGB")).unsqueeze(0)
    return classes[model.eval()(image).argmax(1)]


def predict_name_by_probability(model, classes, prepare, path):
    model.train(False)
    with torch.inference_mode(), Image.open(path) as image:
        probabilities = model(torch.stack([prepare(image.convert("RGB"))])).softmax(-1)[0]
    return max(zip(probabilities.tolist(), classes, strict=True))[1]


def save(path, model, classes):
    torch.save({"weights": model.state_dict(), "classes": classes}, path)


def load(path, build):
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model = build(len(saved["classes"]))
    model.load_state_dict(saved["weights"])
    return model.eval(), saved["classes"]


lesson_10.check_replace_head(replace_head)
lesson_10.check_replace_head(replace_head_by_search)
lesson_10.check_replace_head(replace_head_with_dropout)
lesson_10.check_freeze_backbone(freeze_backbone)
lesson_10.check_freeze_backbone(freeze_backbone_by_its_train)
lesson_10.check_parameter_groups(parameter_groups)
lesson_10.check_parameter_groups(parameter_groups_one_each)
lesson_10.check_epoch(one_epoch)
lesson_10.check_epoch(one_epoch_by_sums)
lesson_10.check_predict(predict_name)
lesson_10.check_predict(predict_name_by_probability)
lesson_10.check_save_and_load(save, load)
