"""Short names, options of ids, lists of backbones, and packages that are missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from brainalign.errors import InputError
from brainalign.features import aliases, extract_features, list_backbones, listing, load_backbone
from brainalign.features.aliases import ALIASES, Alias, resolve_alias
from brainalign.features.options import split_options
from brainalign.features.sources import parse_id
from brainalign.stimuli import StimulusSet

# Shallow Alignment (arXiv 2601.21948v1), table of backbones: parameters in millions and L, copied by hand
PUBLISHED = {
    "rn50": (38, 4), "rn101": (56, 4), "vit-b-16": (86, 12), "vit-h-14": (632, 32), "dinov2-g": (1140, 40),
    "vit-bigg-14": (1840, 48), "eva02-clip-e": (4350, 64), "internvit-6b": (5540, 46),
}  # fmt: skip


def test_the_table_is_the_papers() -> None:
    def millions(text: str) -> float:
        return float(text[:-1]) * {"M": 1, "B": 1000}[text[-1]]

    assert {name: (millions(one.parameters), one.layers) for name, one in ALIASES.items()} == PUBLISHED


@pytest.mark.parametrize("name", ALIASES)
def test_what_is_loaded_has_the_published_size(name) -> None:
    alias = ALIASES[name]
    assert abs(alias.n_parameters / 1e6 - PUBLISHED[name][0]) <= 0.011 * PUBLISHED[name][0]
    stages = 4 if name.startswith("rn") else None
    assert (stages or alias.n_blocks) == PUBLISHED[name][1] - (name == "internvit-6b")  # the paper counts one more


@pytest.mark.parametrize("name", [name for name, one in ALIASES.items() if one.id.startswith("open_clip:")])
def test_open_clip_has_them(name) -> None:
    """Built without memory for their weights: sizes and resolution as the table says."""
    open_clip = pytest.importorskip("open_clip")
    from brainalign.features import open_clip_source

    place = ALIASES[name].id.removeprefix("open_clip:")
    model, tag = place.split("/")
    assert (model, tag) in open_clip.list_pretrained()
    assert open_clip_source.sizes(place) == (ALIASES[name].n_parameters, ALIASES[name].n_blocks)
    assert open_clip.get_model_config(model)["vision_cfg"]["image_size"] == ALIASES[name].image_size == 224


def test_dinov2_giant_has_its_size() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=1536, num_hidden_layers=40, num_attention_heads=24, image_size=518, patch_size=14,
        use_swiglu_ffn=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.Dinov2Model(config)
    assert sum(weight.numel() for weight in model.parameters()) == ALIASES["dinov2-g"].n_parameters


def test_internvit_has_its_size() -> None:
    pytest.importorskip("transformers")
    from brainalign.features import internvit

    with torch.device("meta"):
        model = internvit.build({"num_hidden_layers": 45, "image_size": 448}, where="x")
    assert sum(weight.numel() for weight in model.parameters()) == ALIASES["internvit-6b"].n_parameters


def test_a_short_name_loads_what_it_stands_for() -> None:
    pytest.importorskip("open_clip")
    for name in ("rn50", "RN50"):
        backbone = load_backbone(name, weights="random")
        assert backbone.id == "open_clip:RN50/openai"
        assert [backbone.resolve_layers(f"stage{i}")[0].index for i in range(1, 5)] == [2, 6, 12, 15]
        assert (backbone.preprocessing.size, backbone.n_parameters) == (224, ALIASES["rn50"].n_parameters)


def test_unknown_short_names_suggest_near_ones() -> None:
    for wrong, near in (("rn-50", "rn50"), ("vit-h14", "vit-h-14"), ("internvit6b", "internvit-6b")):
        with pytest.raises(InputError, match=f"'{wrong}' names no source; did you mean '{near}'"):
            parse_id(wrong)
    assert resolve_alias("timm:rn50") == "timm:rn50"


def test_banks_of_a_short_name_are_those_of_its_id(image_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(aliases.ALIASES, "tiny", Alias("timm:test_vit", "1M", 6, 1, 6, 160))
    folder, _ = image_folder
    stimuli = StimulusSet.from_folder(folder)
    how = {"cache_dir": tmp_path / "cache", "weights": "random", "image_size": 64}
    short = extract_features(stimuli, "tiny", "0", ["mean"], **how)
    from brainalign.features import facts

    monkeypatch.setattr(facts, "load_backbone", None)  # all is there: nothing may be loaded
    full = extract_features(stimuli, "timm:test_vit", "0", ["mean"], **how)
    key = ("0", "mean")
    assert short[key].folder == full[key].folder
    assert short.backbone == full.backbone == "timm:test_vit"
    assert short[key].meta["backbone"] == "timm:test_vit"


def test_other_files_in_a_local_folder_are_another_model(image_folder, tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    folder, _ = image_folder
    stimuli, model = StimulusSet.from_folder(folder), tmp_path / ("m" * 200)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = transformers.Dinov2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
        )
        transformers.Dinov2Model(config).save_pretrained(model)
        transformers.BitImageProcessor(size={"shortest_edge": 28}, crop_size=28).save_pretrained(model)
        banks = extract_features(stimuli, f"hf:{model}", "0", ["mean"], cache_dir=tmp_path / "cache")
        found.append(banks["0", "mean"])
    assert found[0].meta["weights_hash"] != found[1].meta["weights_hash"]
    assert found[0].folder != found[1].folder
    assert "transformers" in found[0].meta["versions"]


class TestLists:
    def test_short_names_are_a_group(self) -> None:
        found = list_backbones("alias:*")
        assert {one.id: one.resolves_to for one in found} == {name: one.id for name, one in ALIASES.items()}
        assert all(one.n_parameters and one.n_layers and one.source == "alias" for one in found)
        assert [one.id for one in list_backbones("rn*") if one.source == "alias"] == ["rn101", "rn50"]

    def test_every_source_has_some(self) -> None:
        pytest.importorskip("open_clip")
        pytest.importorskip("transformers")
        found = list_backbones("*")
        assert {one.source for one in found} == {"alias", "timm", "pip", "open_clip", "hf", "slip"}
        assert len(found) > 1000
        assert not any(one.n_parameters for one in found if one.source != "alias")  # none of so many was built

    def test_few_are_sized_and_many_only_on_request(self, monkeypatch) -> None:
        one = list_backbones("timm:test_vit.*")[0]
        built = load_backbone(one.id, weights="random")
        assert (one.n_parameters, one.n_layers) == (built.n_parameters, 6)
        monkeypatch.setattr(listing, "MOST_SIZED", 3)
        many = list_backbones("timm:test_*")
        assert len(many) > 3
        assert not any(one.n_parameters for one in many)
        assert all(one.n_parameters for one in list_backbones("timm:test_vit*", sizes=True))
        assert list_backbones("timm:test_vit.*", sizes=False)[0].n_parameters is None

    def test_nothing_is_downloaded(self, no_network) -> None:
        pytest.importorskip("open_clip")
        sized = list_backbones("open_clip:ViT-H-14/*")
        assert sized
        assert {one.n_parameters for one in sized} == {632_076_800}

    def test_a_family_whose_blocks_are_not_found_has_parameters_only(self) -> None:
        one = list_backbones("timm:vgg11.*")[0]
        assert one.n_layers is None
        assert one.n_parameters == 132_863_336  # torchvision's published count


@pytest.fixture
def no_extras(monkeypatch) -> None:
    """Neither open_clip nor transformers can be imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("open_clip", "transformers")]:
        monkeypatch.delitem(sys.modules, name)

    class Finder:
        @staticmethod
        def find_spec(name: str, path=None, target=None):
            if name.partition(".")[0] in ("open_clip", "transformers"):
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])


def test_a_missing_package_is_named_with_what_installs_it(no_extras) -> None:
    for name, package in (("rn50", "open_clip_torch"), ("hf:facebook/dinov2-small", "transformers")):
        with pytest.raises(InputError, match=rf'{package} is not installed; pip install "brainalign\[models\]"'):
            load_backbone(name)
    assert {one.source for one in list_backbones("*lite0*")} == {"timm", "pip"}
    with pytest.raises(InputError, match="open_clip_torch is not installed"):
        list_backbones("open_clip:*")


def test_options_of_an_id() -> None:
    assert split_options("a/b", ["dtype"], where="x") == ("a/b", {})
    with pytest.raises(InputError, match="unknown option ''"):
        split_options("a/b?", ["dtype"], where="x")


def test_the_documentation_has_the_same_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text()
    for name, one in ALIASES.items():
        assert (
            f"| `{name}` | `{one.id}` | {one.parameters} | {one.layers} | {one.n_blocks} | {one.image_size} |" in page
        )
