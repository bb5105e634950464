"""Loading timm models: names, weights, being offline."""

from __future__ import annotations

import logging

import pytest
import torch

from brainalign.errors import InputError
from brainalign.features import list_backbones, load_backbone


def test_random_weights_come_from_the_seed_and_leave_the_random_state_alone() -> None:
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    one, two, other = (load_backbone("timm:test_vit", weights="random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert one.weights_hash == two.weights_hash != other.weights_hash
    assert one.weights == "random, seed 1"
    assert not one.model.training
    assert not any(weight.requires_grad for weight in one.model.parameters())


def test_hash_changes_with_a_single_bit() -> None:
    backbone = load_backbone("timm:test_resnet", weights="random")
    from brainalign.features.backbones import weights_hash

    assert weights_hash(backbone.model) == backbone.weights_hash
    with torch.no_grad():
        next(backbone.model.parameters())[0, 0, 0, 0] += 1e-3
    assert weights_hash(backbone.model) != backbone.weights_hash


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext"])
def test_image_size_can_be_chosen(name) -> None:
    backbone = load_backbone(f"timm:{name}", weights="random", image_size=64)
    assert backbone.preprocessing.size == 64
    found = backbone.forward_layers(torch.zeros(1, 3, 64, 64), backbone.resolve_layers(-1), ["grid2"])
    assert found[backbone.table.blocks[-1].name, "grid2"].shape[0] == 1


def test_without_a_network_it_says_so_in_one_line(no_network, capfd, caplog) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(InputError) as caught:
        load_backbone("timm:test_vit.r160_in1k")
    message = str(caught.value)
    assert message.startswith("timm:test_vit.r160_in1k: pretrained weights cannot be had")
    assert "pip:efficientnet-lite0" in message
    assert "\n" not in message
    assert "Retrying" not in caplog.text + capfd.readouterr().err
    from huggingface_hub import constants

    assert constants.HF_HUB_OFFLINE is False  # left as it was


@pytest.mark.parametrize(
    ("backbone", "options", "problem"),
    [
        ("timm:resnet51", {"weights": "random"}, "unknown timm model 'resnet51'; did you mean 'resnet5"),
        ("timm:resnet50.nosuch", {"weights": "random"}, r"timm:resnet50\.nosuch: cannot be built"),
        ("timm:test_resnet", {"weights": "halved"}, "unknown kind of weights 'halved'"),
        ("timm:test_resnet", {"weights": "random", "crop": "middle"}, "unknown crop 'middle'"),
        ("timm:test_resnet", {"weights": "random", "image_size": 0}, "image_size is 0, expected 16 to 4096"),
        ("timm:test_resnet", {"weights": "random", "device": "nosuch"}, "device nosuch: cannot be used"),
        ("timm:vgg11", {"weights": "random"}, "the blocks of a VGG are not found"),
        ("tmm:resnet50", {}, "unknown backbone source 'tmm'; did you mean 'timm'"),
        (
            "resnet50",
            {},
            "'resnet50' names no source; did you mean 'rn50'?.* write it as timm:NAME, pip:NAME, open_clip:NAME",
        ),
    ],
)
def test_refusals(backbone, options, problem) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        load_backbone(backbone, **options)
    assert "\n" not in str(caught.value)


def test_wildcards_find_names() -> None:
    found = {one.id: one for one in list_backbones("timm:vit_tiny_patch16_224*")}
    assert "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k" in found
    assert all(one.source == "timm" for one in found.values())
    both = {one.source for one in list_backbones("*efficientnet*lite0*")}
    assert both == {"timm", "pip"}
    assert list_backbones("nosuch:*") == []
