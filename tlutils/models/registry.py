"""Which names there are: those of packages that carry weights, then torchvision's, then timm's."""

import timm
import torchvision
from torchvision.models import WeightsEnum, get_model_weights

from ..errors import LearnerError, unknown
from .packaged import PACKAGES


def torchvision_names() -> list[str]:
    """Return the classifiers that torchvision builds, sorted."""
    return torchvision.models.list_models(module=torchvision.models)


def catalog() -> list[str]:
    """Return every name that `load` takes, without pretrained tags: packaged, torchvision, timm.

    A name that several sources have means the first of them; "timm/resnet18" asks for a later one. Beside
    these, "transformers/owner/name" is any image classifier on the Hugging Face hub.

    Example:
        >>> from tlutils import models
        >>> models.catalog()[:3]
        ['tf_efficientnet_lite0', 'tf_efficientnet_lite1', 'tf_efficientnet_lite2']
    """
    first = [*PACKAGES, *torchvision_names()]
    taken = set(first)
    return first + [f"timm/{name}" if name in taken else name for name in timm.list_models()]


def resolve(name: str) -> tuple[str, str, str | None]:
    """Return (source, architecture, pretrained tag or None) of a name; raise LearnerError for one that
    nobody knows.
    """
    prefix, slash, rest = name.partition("/")
    if prefix == "transformers" and rest:
        return prefix, rest, None
    wanted = prefix if slash else None
    base, _, tag = (rest if slash else name).partition(".")
    sources = {"package": PACKAGES, "torchvision": torchvision_names(), "timm": timm.list_models()}
    for source, names in sources.items():
        if base not in names or wanted not in (None, source):
            continue
        # A tag asks for one set of weights, and a source that has no such set leaves the name to the next.
        if (
            not tag
            or wanted
            or source == "timm"
            or (source == "torchvision" and tag in get_model_weights(base).__members__)
        ):
            return source, base, tag or None
    if wanted in sources:
        raise unknown(f"{wanted} model", base, sources[wanted])
    raise unknown(
        "model", name, catalog(), hint="models.catalog() lists all names; a file is given by its path."
    )


def timm_name(name: str, tag: str | None) -> str:
    """Return the name by which `load` finds a timm model: "timm/" marks one that another source has too."""
    if tag:
        return f"{name}.{tag}"
    return f"timm/{name}" if name in PACKAGES or name in torchvision_names() else name


def known_weights(name: str, tag: str | None) -> WeightsEnum:
    """Return torchvision's weights of a model by tag (IMAGENET1K_V1, ...), the best ones without."""
    enum = get_model_weights(name)
    if tag is None:
        return enum.DEFAULT
    if tag not in enum.__members__:
        raise LearnerError(
            f"{name} has no weights {tag!r} in torchvision; it has {', '.join(enum.__members__)}."
        )
    return enum[tag]
