"""Answers to the exercises of lesson 10: check -> (answers, word of what is said of them)."""

import json

import torch

from tlutils.checks import lesson_10

ANSWERS = {}


def save(path, model, classes):
    torch.save({"weights": model.state_dict(), "classes": classes}, path)


def load(path, build):
    saved = torch.load(path, map_location="cpu")
    model = build(len(saved["classes"]))
    model.load_state_dict(saved["weights"])
    return model.eval(), saved["classes"]


def save_pair(path, model, classes):
    torch.save((dict(model.state_dict()), tuple(classes)), path)


def load_pair(path, build):
    weights, classes = torch.load(path, map_location=torch.device("cpu"), weights_only=True)
    model = build(len(classes)).eval()
    model.load_state_dict(weights)
    return [model, classes]


def save_unwrapped(path, model, classes):
    save(path, getattr(model, "module", model), classes)


def load_forgiving(path, build):
    saved = torch.load(path, map_location="cpu")
    model = build(len(saved["classes"]))
    model.load_state_dict(saved["weights"], strict=False)
    return model.eval(), saved["classes"]


def save_whole(path, model, classes):
    torch.save({"model": model, "classes": classes}, path)


def save_weights_alone(path, model, classes):
    torch.save(model.state_dict(), path)


def save_parameters(path, model, classes):
    torch.save({"weights": dict(model.named_parameters()), "classes": classes}, path)


def save_two_files(path, model, classes):
    torch.save({"weights": model.state_dict(), "number": classes}, path)
    path.with_suffix(".json").write_text(json.dumps(classes))


def load_two_files(path, build):
    classes = json.loads(path.with_suffix(".json").read_text())
    return build(len(classes)), classes


def load_with(**how):
    def load(path, build):
        saved = torch.load(path, **how)
        model = build(len(saved["classes"]))
        model.load_state_dict(saved["weights"])
        return model.eval(), saved["classes"]

    return load


def load_in_training_mode(path, build):
    model, classes = load(path, build)
    return model.train(), classes


def load_and_forget(path, build):
    saved = torch.load(path, map_location="cpu")
    return build(len(saved["classes"])).eval(), saved["classes"]


ANSWERS[lesson_10.check_save_and_load] = [
    ((save, load), "Right"),
    ((save_pair, load_pair), "Right"),
    ((save_unwrapped, load_forgiving), "Right"),
    ((save, load_forgiving), "strict=False"),
    ((save_parameters, load_forgiving), "BatchNorm's averages"),
    ((save_parameters, load), "the whole state_dict()"),
    ((save_whole, load), "The whole network is in the file"),
    ((lambda path, model, classes: torch.save(model, path), load), "The whole network is in the file"),
    ((save_weights_alone, load), "names of the classes are not in the file"),
    ((save_two_files, load_two_files), "Save one file"),
    ((save, load_with()), "map_location"),
    ((save, load_with(map_location="cpu", weights_only=False)), "runs whatever code"),
    ((save, load_in_training_mode), "in training mode"),
    ((save, load_and_forget), "gives other answers"),
    ((save, lambda path, build: load(path, build)[0]), "Return two things"),
    ((save, lambda path, build: (load(path, build)[0], ["cat", "dog"])), "Read them from the file"),
    ((save, lambda path, build: load(path, build)[2]), "load stopped with IndexError"),
    ((lambda path, model, classes: model[9], load), "save stopped with IndexError"),
    ((save, lambda path, build: None), "Not answered"),
    ((save, lambda path, build: load(path, build) and None), "Nothing came back"),
    ((lambda path, model, classes: None, load), "Not answered"),
]
