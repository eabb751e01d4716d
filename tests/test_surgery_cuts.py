"""Every cut of every architecture is exact: see `surgery_zoo.check_cuts` for what that means."""

import pytest
import torchvision
from families import few
from surgery_zoo import FEW, ZOO, Entry, check_cuts, smallest_of_each_family

# Branches and two auxiliary heads, which test_surgery_split.py tries in every run.
GOOGLENET = pytest.param("torchvision/googlenet", marks=pytest.mark.full)


@pytest.mark.parametrize("name", [GOOGLENET, *few(FEW, "timm/test_resnet", "timm/test_coatnet")])
def test_halves_are_the_model_at_its_cuts(name):
    model, side = Entry(name).build()
    assert check_cuts(model, side, most=4) >= 2


@pytest.mark.full
@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_halves_are_the_model_at_every_cut(entry):
    model, side = entry.build()
    assert check_cuts(model, side) >= 2


@pytest.mark.full
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_all_of_torchvision(name):
    model, side = Entry(f"torchvision/{name}").build()
    assert check_cuts(model, side) >= 2


@pytest.mark.full
@pytest.mark.parametrize("name", list(smallest_of_each_family()))
def test_every_family_of_timm(name):
    model, side = Entry(f"timm/{name}").build()
    assert check_cuts(model, side) >= 1
