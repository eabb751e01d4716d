"""Answers to the exercises of lesson 10: check -> (answer, word of what is said of it)."""

import timm
import torch
from torch import nn

from tlutils.checks import lesson_10

ANSWERS = {}


def last_linear(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def head_by_family(model, classes):
    if hasattr(model, "reset_classifier"):
        model.reset_classifier(classes)
    elif hasattr(model, "fc"):
        model.fc = nn.Linear(model.fc.in_features, classes)
    else:
        model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, classes)
    return model


def head_by_label(model, classes):
    model.get_submodule(last_linear(model)).out_features = classes
    return model


def head_in_fc(model, classes):
    model.fc = nn.Linear(512, classes)
    return model


def head_behind_the_head(model, classes):
    return nn.Sequential(model, nn.Linear(1000, classes))


def whole_classifier_of_vgg(model, classes):
    if hasattr(model, "features"):
        model.classifier = nn.Linear(512 * 7 * 7, classes)
        return model
    return head_by_family(model, classes)


def whole_classifier_too_narrow(model, classes):
    if hasattr(model, "features"):
        model.classifier = nn.Linear(4096, classes)
        return model
    return head_by_family(model, classes)


def head_of_512(model, classes):
    model.set_submodule(last_linear(model), nn.Linear(512, classes))
    return model


def softmax_head(model, classes):
    model = head_by_family(model, classes)
    return nn.Sequential(model, nn.Softmax(1))


def two_classes_always(model, classes):
    return head_by_family(model, 2)


def another_network(model, classes):
    return timm.create_model("resnet18", num_classes=classes)


def head_alone(model, classes):
    return nn.Linear(model.fc.in_features, classes)


def changed_and_not_returned(model, classes):
    head_by_family(model, classes)


ANSWERS[lesson_10.check_replace_head] = [
    (None, "Not answered"),
    (changed_and_not_returned, "return the network"),
    (head_by_family, "Right"),
    (head_by_label, "a label that changes no weight"),
    (head_in_fc, "VGG: it still gives 1,000 logits"),
    (head_behind_the_head, "the old head is still in use"),
    (whole_classifier_of_vgg, "VGG: more than the head was replaced: classifier.0.weight"),
    (whole_classifier_too_narrow, "VGG: the new layer does not fit"),
    (head_of_512, "VGG: the new layer does not fit"),
    (softmax_head, "softmax at the end"),
    (two_classes_always, "give (2, 2); expected (2, 7)"),
    (another_network, "another network"),
    (head_alone, "without its network"),
    (lambda model, classes: model.fc.in_features, "a int came back"),
    (lambda model, classes: head_in_fc(model, model.classifier), "stopped with AttributeError"),
]


def rest_of(model, head):
    """All modules that neither are the head, nor hold it, nor belong to it."""
    return [m for m in model.modules() if not set(m.modules()) & set(head.modules())]


def by_flag(model, head):
    model.requires_grad_(False)
    head.requires_grad_(True)
    return model


def frozen_once(model, head):
    by_flag(model, head).eval()
    head.train()
    return model


def replaced_before_eval(model, head):
    for module in rest_of(model, head):
        module.requires_grad_(False)
        module.train = lambda mode=True, module=module: module
        module.eval()
    return model


def frozen_with_the_head(model, head):
    model.requires_grad_(False)
    return model


def frozen_convolutions(model, head):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.requires_grad_(False)
    return model


def frozen_batchnorm_without_dropout(model, head):
    for module in by_flag(model, head).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model


def averages_without_momentum(model, head):
    for module in by_flag(model, head).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
        elif isinstance(module, nn.Dropout) and module is not head[0]:
            module.p = 0.0
    return model


def never_in_training_mode(model, head):
    by_flag(model, head).eval()
    model.train = lambda mode=True: model
    return model


def hook_that_trains_the_head(model, head):
    def modes(module, inputs):
        module.eval()
        head.train()

    by_flag(model, head).register_forward_pre_hook(modes)
    return model


def train_without_mode(model, head):
    for module in rest_of(by_flag(model, head), head):
        module.train = lambda module=module: module
    model.block.train = lambda: model.block
    return model


def no_gradient_at_all(model, head):
    model.forward = torch.no_grad()(model.forward)
    return by_flag(model, head)


def without_batchnorm(model, head):
    model.norm = nn.Identity()
    return by_flag(model, head)


ANSWERS[lesson_10.check_freeze_backbone] = [
    (None, "Not answered"),
    (lambda model, head: None, "Not answered"),
    (lambda model, head: model, "Nothing is frozen yet"),
    (by_flag, "running averages move"),
    (frozen_once, "running averages move"),
    (replaced_before_eval, "before you replace train"),
    (frozen_with_the_head, "The head is frozen, too"),
    (frozen_convolutions, "weights of BatchNorm moved"),
    (frozen_batchnorm_without_dropout, "Dropout of the frozen part"),
    (averages_without_momentum, "by its own mean"),
    (never_in_training_mode, "The head stays in eval mode"),
    (hook_that_trains_the_head, "In evaluation the head still drops"),
    (train_without_mode, "stops with TypeError"),
    (no_gradient_at_all, "stops with RuntimeError"),
    (without_batchnorm, "other features than before"),
]


def groups(rest, head, lr, head_lr):
    return [{"params": rest, "lr": lr}, {"params": head, "lr": head_lr}]


def by_identity(model, head, lr, head_lr):
    own = list(head.parameters())
    rest = [p for p in model.parameters() if all(p is not q for q in own)]
    return groups(rest, own, lr, head_lr)


def by_equality(model, head, lr, head_lr):
    own = list(head.parameters())
    return groups([p for p in model.parameters() if p not in own], own, lr, head_lr)


def by_name(model, head, lr, head_lr):
    named = dict(model.named_parameters())
    own = [p for name, p in named.items() if "fc" in name]
    return groups([p for name, p in named.items() if "fc" not in name], own, lr, head_lr)


def spent_generator(model, head, lr, head_lr):
    own = head.parameters()
    ids = {id(p) for p in own}
    return groups([p for p in model.parameters() if id(p) not in ids], own, lr, head_lr)


def weights_only(model, head, lr, head_lr):
    own = {id(head.weight)}
    weights = [p for name, p in model.named_parameters() if name.endswith("weight") and id(p) not in own]
    return groups(weights, [head.weight], lr, head_lr)


def misspelt(model, head, lr, head_lr):
    return [{"params": g["params"], "learning_rate": g["lr"]} for g in by_identity(model, head, lr, head_lr)]


ANSWERS[lesson_10.check_parameter_groups] = [
    (None, "Not answered"),
    (by_identity, "Right"),
    (by_equality, "stopped with RuntimeError"),
    (by_name, "fc1.weight is in the head's group"),
    (spent_generator, "A group is empty"),
    (weights_only, "in no group: biases"),
    (misspelt, "has no 'lr'"),
    (lambda m, h, lr, head_lr: groups(m.parameters(), h.parameters(), lr, head_lr), "in both groups"),
    (lambda m, h, lr, head_lr: by_identity(m, h, lr, head_lr)[1:], "Nothing but the head"),
    (lambda m, h, lr, head_lr: by_identity(m, h, lr, head_lr)[:1], "The head is in no group"),
    (lambda m, h, lr, head_lr: by_identity(m, h, head_lr, lr), "swapped"),
    (lambda m, h, lr, head_lr: by_identity(m, h, lr, lr), "same learning rate"),
    (lambda m, h, lr, head_lr: by_identity(m, h, lr / 10, head_lr), "neither lr nor head_lr"),
    (lambda m, h, lr, head_lr: by_identity(m, h, lr, head_lr) * 2, "in both groups"),
    (lambda m, h, lr, head_lr: torch.optim.SGD(by_identity(m, h, lr, head_lr)), "list of dicts"),
    (
        lambda m, h, lr, head_lr: [{"params": list(m.named_parameters()), "lr": lr}],
        "without their names",
    ),
]
