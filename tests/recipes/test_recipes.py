"""Recipes: every key checked, profiles and overrides in order, YAML there and back."""

from __future__ import annotations

import pytest

from brainalign.errors import InputError
from brainalign.recipes import load_recipe, recipe_keys, recipe_names, recipe_profiles, save_recipe
from brainalign.recipes.load import ablate


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_resolves_in_every_profile(name, tmp_path):
    for profile in ("", *recipe_profiles(name)):
        full = f"{name}/{profile}" if profile else name
        recipe = load_recipe(full, modality="eeg")
        assert recipe.name == full
        path = tmp_path / "r.yaml"
        path.write_text(save_recipe(recipe))
        assert load_recipe(str(path), modality="spikes") == recipe


def test_profiles_follow_the_kind_of_data():
    assert load_recipe("shallow-alignment", modality="eeg").encoder.name == "eegproject"
    assert load_recipe("shallow-alignment", modality="spikes").encoder.name == "linear"
    paper = load_recipe("shallow-alignment/paper", modality="spikes")
    assert paper.encoder.name == "eegproject"
    # papers: Du et al. 2026, section 1.2 of the specification
    assert (paper.training.epochs, paper.training.batch_size, paper.training.lr) == (50, 1024, 1e-4)
    assert paper.training.weight_decay == 1e-4
    assert paper.training.optimizer == "adamw"
    assert paper.signals.channels == "posterior"


@pytest.mark.parametrize("name", ["nice", "nice-sa", "nice-ga", "nice-llm", "atm-s", "ubp", "neuroalign"])
def test_published_programs_draw_their_batches_at_random(name):
    """docs/protocols.md: an image may come twice in a batch there, here only if that is asked for."""
    assert load_recipe(f"{name}/paper", modality="eeg").training.batches == "random"
    assert load_recipe(name, modality="eeg").training.batches == "distinct"


def test_overrides_win_and_budget_is_recorded():
    recipe = load_recipe("shallow-alignment", modality="eeg", overrides=["training.epochs=7", "budget=small"])
    assert recipe.training.epochs == 7
    assert recipe.budget == "small"
    short = load_recipe("shallow-alignment", modality="eeg", overrides=["budget=small"])
    assert short.training.epochs < load_recipe("shallow-alignment", modality="eeg").training.epochs


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epoch=3", "unknown recipe key 'training.epoch'; did you mean 'training.epochs'"),
        ("traning.lr=1", "unknown recipe key 'traning'"),
        ("training.epochs=many", "training.epochs: Input should be a valid integer"),
        ("training.epochs=0", "greater than or equal to 1"),
        ("training.lr=.nan", "training.lr"),
        ("training.batch_size=1", "training.batch_size"),
        ("training.lr", "is not key=value"),
        ("=3", "is not key=value"),
        ("training.lr={", "not YAML"),
        ("budget=tiny", "budget: Input should be 'full' or 'small'"),
        ("training.lr=!!python/object/apply:os.system ['true']", "not YAML"),
        ("target.poolings=[]", "give at least one pooling"),
    ],
)
def test_bad_overrides_are_refused_in_one_line(override, words):
    with pytest.raises(InputError) as caught:
        load_recipe("shallow-alignment", modality="eeg", overrides=[override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("foundation", "training.trials=single", "--set: training.trials: single is not for a foundation model"),
        ("foundation", "foundation.inputs.spikes.whiten=mvnn", "whiten=mvnn .* does not go with transform=sqrt"),
        ("generative", "signals.whiten=mvnn", "--set: signals: .*whiten=mvnn .* does not go with transform=sqrt"),
        ("generative", "signals.window=[0, 1]", "--set: signals.window: a generative model leaves samples out"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_in_one_short_line(name, override, words):
    with pytest.raises(InputError, match=words) as caught:
        load_recipe(name, modality="spikes", overrides=[override])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_unknown_recipe_and_profile_name_the_nearest():
    with pytest.raises(InputError, match="did you mean 'shallow-alignment'"):
        load_recipe("shalow-alignment", modality="eeg")
    with pytest.raises(InputError, match="did you mean 'paper'"):
        load_recipe("shallow-alignment/papers", modality="eeg")


@pytest.mark.parametrize("content", ["- a list", "a: [", "\x00", "!!python/object:os.system {}"])
def test_bad_recipe_files_are_refused(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match="is not"):
        load_recipe(str(path), modality="eeg")


def test_keys_are_the_leaves():
    keys = list(recipe_keys())
    assert "training.lr" in keys
    assert "training" not in keys


def test_published_settings_that_a_modality_has_of_its_own():
    """NeuroAlign's Table 3 and NICE-LLM: 200 epochs on EEG, 100 on MEG. UBP: all 271 sensors of MEG, 17 of EEG."""
    found = {
        (name, modality): load_recipe(f"{name}/paper", modality=modality)
        for name in ("neuroalign", "nice-llm", "ubp", "shallow-alignment")
        for modality in ("eeg", "meg")
    }
    assert {key: one.training.epochs for key, one in found.items() if key[0] in ("neuroalign", "nice-llm")} == {
        ("neuroalign", "eeg"): 200, ("neuroalign", "meg"): 100, ("nice-llm", "eeg"): 200, ("nice-llm", "meg"): 100,
    }  # fmt: skip
    assert found["ubp", "eeg"].signals.channels == "posterior"
    assert found["ubp", "meg"].signals.channels == "all"
    assert found["shallow-alignment", "eeg"].signals.scale == "none"
    assert found["shallow-alignment", "meg"].signals.scale == "channel"


def test_a_profile_replaces_options_and_a_setting_adds_to_them():
    assert load_recipe("atm-s/paper", modality="eeg").encoder.options == {"as_released": True}
    changed = load_recipe("atm-s", modality="eeg", overrides=["encoder.options.as_released=true"])
    assert changed.encoder.options == {"subject_dropout": 0.1, "as_released": True}


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("modality", ["eeg", "meg", "spikes", "fmri"])
def test_every_profile_builds_its_encoder(name, modality):
    """A profile with another encoder starts from that one's own options."""
    from brainalign.encoders import build_encoder, encoder_class

    for profile in ["", *(f"/{p}" for p in recipe_profiles(name))]:
        recipe = load_recipe(name + profile, modality=modality)
        if recipe.family != "contrastive":
            continue
        assert encoder_class(recipe.encoder.name)
        n_times = 250 if recipe.encoder.name not in ("linear", "mlp") else 1
        build_encoder(recipe.encoder.name, n_chans=17, n_times=n_times, dim=32, **recipe.encoder.options)


def test_ablations_change_what_they_name():
    full = load_recipe("neuroalign", modality="eeg")
    assert ablate(full, "full") is full
    assert ablate(full, "no-vse").target.transform is None
    assert ablate(full, "no-sga").losses.semantic_guidance == 0
    assert ablate(full, "no-dla").losses.balance == "fixed"
    with pytest.raises(InputError, match="no-dla"):
        ablate(full, "no-dal")
