from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from bids_support import EEG_NAMES, SFREQ, eeg_run, events_of, ieeg_run, meg_run, write_stimuli

from brainalign.datasets import open_dataset
from brainalign.datasets.bids import BidsDataset
from brainalign.datasets.bids.options import BidsOptions
from brainalign.errors import InputError
from brainalign.protocols import find_protocol
from brainalign.protocols.lint import lint_split

pytest.importorskip("mne_bids")
mne = pytest.importorskip("mne")

IMAGES = [f"c{i % 12:02d}/i{i:02d}.png" for i in range(24)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two EEG subjects, the first with two sessions; a sound, a rest and a bad segment among the events."""
    folder = tmp_path_factory.mktemp("bids")
    root = folder / "ds"
    root.mkdir()
    write_stimuli(root, IMAGES)
    again = [*IMAGES[::-1], "n/a", "tone.wav"]
    kinds = [*(name[:3] for name in IMAGES[::-1]), "BAD_moved", "tone"]
    events = events_of(again, {"trial_type": kinds})
    events.loc[24, ["onset", "duration"]] = [5.2, 0.9]
    events = events.sort_values("onset", ignore_index=True)
    first = events_of(IMAGES, {"trial_type": [name[:3] for name in IMAGES]})
    eeg_run(root, folder, first, subject="01", session="a", task="things", run="01", bads="Fz")
    eeg_run(root, folder, events, subject="01", session="b", task="things", run="01", bads="Cz")
    eeg_run(root, folder, first, subject="02", session="a", task="things", run="01")
    eeg_run(root, folder, events_of(["n/a"] * 4, {}), subject="02", session="a", task="rest")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "ds"))


def opened(root: Path, tmp_path: Path, **options: object) -> BidsDataset:
    found = open_dataset("bids", root, cache_dir=tmp_path / "cache", **options)
    assert isinstance(found, BidsDataset)
    return found


def raw_of(root: Path, **entities: str):
    import mne_bids

    path = mne_bids.BIDSPath(root=root, **entities)
    return mne_bids.read_raw_bids(path, verbose="ERROR")


def plain_epochs(raw, names: list[str], images: list[str], **options: object):
    """What a user's own script does: events from the annotations that MNE-BIDS makes, `mne.Epochs`, in microvolts."""
    codes = {name: i + 1 for i, name in enumerate(sorted({n[:3] for n in images}))}
    events, _ = mne.events_from_annotations(raw, codes, verbose="ERROR")
    return mne.Epochs(raw, events, picks=names, preload=True, verbose="ERROR", **options)


@pytest.mark.filterwarnings("ignore")
def test_epochs_are_those_of_a_plain_mne_script(made: Path, tmp_path: Path) -> None:
    recording = opened(made, tmp_path, tmin=-0.1, tmax=0.4).recording("01")
    names = [name for name in EEG_NAMES if name not in ("Fz", "Cz")]  # each bad in one of the sessions
    assert (recording.ch_names, recording.unit, recording.sfreq) == (tuple(names), "uV", SFREQ)
    assert recording.times == pytest.approx(np.arange(-0.1, 0.4001, 1 / SFREQ))
    expected = []
    for session in ("a", "b"):
        raw = raw_of(made, subject="01", session=session, task="things", run="01", datatype="eeg")
        epochs = plain_epochs(raw, names, IMAGES, tmin=-0.1, tmax=0.4, baseline=(-0.1, 0))
        expected.append(epochs.get_data() * 1e6)
    assert [len(part) for part in expected] == [24, 21]  # the bad segment, 5.2 to 6.1 s, touches three
    np.testing.assert_allclose(recording.read(np.arange(45)), np.concatenate(expected), atol=1e-4)
    assert recording.trials["session"].tolist() == ["a"] * 24 + ["b"] * 21
    assert recording.trials["run"].tolist() == ["01"] * 45
    assert recording.trials["repetition"].tolist() == [1] * 24 + [2] * 21
    shown = [name.removesuffix(".png") for name in IMAGES]
    assert recording.trials["stimulus_id"].tolist()[:24] == shown
    left = [name for i, name in enumerate(shown[::-1]) if not (5.2 - 0.4 < 1 + 0.5 * i < 6.1 + 0.1)]
    assert recording.trials["stimulus_id"].tolist()[24:] == left


@pytest.mark.filterwarnings("ignore")
def test_filter_baseline_and_rate_are_those_of_mne(made: Path, tmp_path: Path) -> None:
    options = {"band": [1, 30], "sfreq": 100, "tmin": -0.2, "tmax": 0.3, "baseline": [-0.2, -0.05]}
    found = opened(made, tmp_path, session=["a"], bads="keep", channels="O1,Fz,Oz", **options).recording("01")
    raw = raw_of(made, subject="01", session="a", task="things", run="01", datatype="eeg").load_data(verbose="ERROR")
    raw.filter(1, 30, picks="eeg", verbose="ERROR")
    raw.info["bads"] = []
    epochs = plain_epochs(raw, ["Fz", "O1", "Oz"], IMAGES, tmin=-0.2, tmax=0.3, baseline=(-0.2, -0.05))
    epochs.resample(100, method="fft", verbose="ERROR")
    assert found.ch_names == ("Fz", "O1", "Oz")
    assert (found.sfreq, found.tmin) == (100.0, -0.2)
    np.testing.assert_allclose(found.read(np.arange(24)), epochs.get_data() * 1e6, atol=1e-3)
    assert found.channels is not None
    assert found.channels["bad"].tolist() == [True, False, False]


def test_positions_are_those_written(made: Path, tmp_path: Path) -> None:
    found = opened(made, tmp_path).recording("02")
    assert found.ch_pos is not None
    raw = raw_of(made, subject="02", session="a", task="things", run="01", datatype="eeg")
    places = [raw.info["chs"][raw.ch_names.index(name)]["loc"][:3] for name in found.ch_names]
    np.testing.assert_allclose(found.ch_pos, places)
    assert found.ch_pos[found.ch_names.index("O1"), 1] < found.ch_pos[found.ch_names.index("Fz"), 1] - 0.05


def test_meg_in_its_units_with_a_late_first_sample(tmp_path: Path) -> None:
    root = tmp_path / "ds"
    root.mkdir()
    write_stimuli(root, IMAGES)
    meg_run(root, events_of(IMAGES, {"trial_type": ["shown"] * 24}), first_samp=731, subject="7", task="look")
    found = opened(root, tmp_path, tmin=0, tmax=0.25).recording("7")
    assert (found.modality, found.unit, found.n_chans, len(found)) == ("meg", "fT and fT/cm", 4, 24)
    raw = raw_of(root, subject="7", task="look", datatype="meg")
    events, _ = mne.events_from_annotations(raw, verbose="ERROR")
    epochs = mne.Epochs(raw, events, tmin=0, tmax=0.25, baseline=None, preload=True, verbose="ERROR")
    scale = np.array([1e15, 1e13, 1e13, 1e15])[:, None]
    np.testing.assert_allclose(found.read(range(24)), epochs.get_data(picks="meg") * scale, rtol=1e-5)
    assert opened(root, tmp_path, channels="grad").recording("7").ch_names == ("MEG0112", "MEG0113")
    assert opened(root, tmp_path).images[0].has_concepts  # 'shown' is one for all: the subfolders are taken


def test_intracranial_edf(tmp_path: Path) -> None:
    root = tmp_path / "ds"
    root.mkdir()
    write_stimuli(root, IMAGES)
    ieeg_run(root, tmp_path, events_of(IMAGES, {}), subject="p1", task="view")
    dataset = opened(root, tmp_path, tmax=0.5)
    found = dataset.recording("p1")
    assert (dataset.info.modality, found.modality, found.unit) == ("ieeg", "ieeg", "uV")
    raw = raw_of(root, subject="p1", task="view", datatype="ieeg")
    start = int((1.0 - 0.2) * SFREQ)
    block = raw.get_data(start=start, stop=start + 141) * 1e6
    np.testing.assert_allclose(found.read([0])[0], block - block[:, :41].mean(1, keepdims=True), atol=1e-3)


def test_concepts_and_splits(made: Path, tmp_path: Path) -> None:
    dataset = opened(made, tmp_path)
    stimuli, source = dataset.images
    assert (source, stimuli.has_concepts, len(stimuli)) == ("trial_type", True, 24)
    assert stimuli.column("concept", ["c03/i15"]) == ["c03"]
    assert not opened(made, tmp_path, concept="none").stimuli("01").has_concepts
    split = find_protocol("bids/intra/v1").split(0, stimuli, dataset.recording("01"))
    assert not set(split.test) & set(split.train)
    assert split.validation_kind == "concept-disjoint"
    concepts = [set(stimuli.column("concept", part)) for part in (split.train, split.validation, split.test)]
    assert [len(found) for found in concepts] == [8, 2, 2]  # of 12
    assert sum(len(part) for part in (split.train, split.validation, split.test)) == 24
    assert not (concepts[0] & concepts[1] or concepts[0] & concepts[2] or concepts[1] & concepts[2])
    assert not lint_split(split, stimuli)
    bare = opened(made, tmp_path, concept="none")
    split = find_protocol("bids/intra/v1").split(0, bare.stimuli("01"), bare.recording("01"))
    assert (split.validation_kind, len(split.test)) == ("image-disjoint", 4)


def test_few_concepts_are_conditions(root: Path, tmp_path: Path) -> None:
    for path in root.rglob("*_task-things*_events.tsv"):
        path.write_text(path.read_text().replace("\tc0", "\tgo\tc0").replace("\tc1", "\tgo\tc1"))
    for path in root.rglob("*_task-things*_events.tsv"):
        path.unlink()
        path.write_text("onset\tduration\ttrial_type\tstim_file\n1\t0.1\tgo\tc00/i00.png\n2\t0.1\tgo\tc01/i01.png\n")
    assert opened(root, tmp_path).images[1] == ""
    assert opened(root, tmp_path, concept="trial_type").stimuli("01").column("concept", ["c00/i00"]) == ["go"]


def with_part(root: Path, test: int = 4) -> None:
    """Add a column `part`: the first images are tested."""
    for path in root.rglob("*_task-things*_events.tsv"):
        lines = path.read_text().splitlines()
        last = [f"i{i:02d}.png" for i in range(test)]
        parts = ["test" if any(name in line for name in last) else "train" for line in lines[1:]]
        rows = [f"{lines[0]}\tpart", *(f"{line}\t{part}" for line, part in zip(lines[1:], parts, strict=True))]
        path.write_text("\n".join(rows) + "\n")


def test_a_column_names_the_test_images(root: Path, tmp_path: Path) -> None:
    with_part(root)
    dataset = opened(root, tmp_path)
    recording, stimuli = dataset.recording("01"), dataset.stimuli("01")
    assert set(recording.trials["part"]) == {"train", "test"}
    split = find_protocol("bids/intra/v1").split(0, stimuli, recording)
    assert sorted(split.test) == ["c00/i00", "c01/i01", "c02/i02", "c03/i03"]
    concepts = [set(stimuli.column("concept", part)) for part in (split.train, split.validation, split.test)]
    assert not (concepts[0] & concepts[1] or concepts[0] & concepts[2] or concepts[1] & concepts[2])
    assert split.validation_kind == "concept-disjoint"
    assert set(opened(root, tmp_path, part="none").recording("01").trials["part"]) == {""}


def test_a_subject_left_out_is_tested_on_images_that_train_nobody(made: Path, tmp_path: Path) -> None:
    dataset = opened(made, tmp_path)
    protocol = find_protocol("bids/inter/v1")
    assert protocol.training_subjects("01", dataset.subjects) == ("02",)
    split = protocol.split(0, dataset.stimuli("01"), dataset.recording("01"), [dataset.recording("02")])
    assert not set(split.test) & (set(split.train) | set(split.validation))
    assert split.validation_kind == "concept-disjoint"


def test_rows_can_be_chosen(made: Path, tmp_path: Path) -> None:
    found = opened(made, tmp_path, where="trial_type=c03", session="a")
    assert sorted(set(found.recording("01").trials["stimulus_id"])) == ["c03/i03", "c03/i15"]
    assert found.of_subject("01")[0].skipped == {"not chosen": 22}


def test_check_says_what_is_there(made: Path, tmp_path: Path) -> None:
    for dataset in (opened(made, tmp_path), open_dataset(str(made), cache_dir=tmp_path)):
        findings = dataset.check()
        assert all(finding.ok for finding in findings)
        assert [f.text for f in findings[1:]] == [
            "24 images, 12 concepts (trial_type); test images are held out by the protocol",
            "2 runs in 2 sessions; 44 trials of 24 images x 1 to 2; 10 eeg channels, 2 marked bad (left out), 200 Hz; "
            "events left out: 1 without stim_file, 1 not an image, 4 in a bad segment",
            "1 run in 1 session; 24 trials of 24 images x 1; 10 eeg channels, 200 Hz; events left out: none",
        ]
    assert not (tmp_path / "cache").exists()  # nothing is prepared for it


def test_check_names_missing_and_equal_images(root: Path, tmp_path: Path) -> None:
    (root / "stimuli" / IMAGES[0]).unlink()
    shutil.copy(root / "stimuli" / IMAGES[1], root / "stimuli" / IMAGES[2])
    bad = [f"{f.where}: {f.text}" for f in opened(root, tmp_path).check() if not f.ok]
    assert len(bad) == 2
    assert bad[0].startswith("stimuli/c00/i00.png: missing; put the images into stimuli/")
    assert "'c01/i01', 'c02/i02' are the same image" in bad[1]


def test_check_names_images_that_cannot_be_decoded(root: Path, tmp_path: Path) -> None:
    path = root / "stimuli" / IMAGES[0]
    path.write_bytes(path.read_bytes()[:100])
    bad = [f"{f.where}: {f.text}" for f in opened(root, tmp_path).check() if not f.ok]
    assert len(bad) == 1
    assert bad[0].startswith("stimuli/c00/i00.png: cannot be decoded as an image")
    with pytest.raises(InputError, match=r"i00\.png: cannot be decoded as an image"):
        opened(root, tmp_path).stimuli("01").image(0)


def test_links_inside_the_data_set_are_followed(root: Path, tmp_path: Path) -> None:
    """DataLad keeps every image below `.git/annex` and links to it."""
    image = root / "stimuli" / IMAGES[0]
    store = root / ".git" / "annex" / "objects" / "x.png"
    store.parent.mkdir(parents=True)
    image.rename(store)
    image.symlink_to(Path("../../.git/annex/objects/x.png"))
    dataset = opened(root, tmp_path)
    assert all(finding.ok for finding in dataset.check())
    store.unlink()
    assert "a link to nothing" in " ".join(f.text for f in dataset.check() if not f.ok)


def test_events_may_be_inherited(root: Path, tmp_path: Path) -> None:
    before = opened(root, tmp_path, session="a").recording("02")
    own = root / "sub-02/ses-a/eeg/sub-02_ses-a_task-things_run-01_events.tsv"
    own.rename(root / "sub-02/task-things_events.tsv")
    after = opened(root, tmp_path, session="a").recording("02")
    np.testing.assert_array_equal(before.read(range(24)), after.read(range(24)))


def test_prepared_once_and_anew_after_a_change(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainalign.datasets.bids import store

    calls: list[str] = []
    cut = store._cut
    monkeypatch.setattr(store, "_cut", lambda raw, *rest: calls.append("") or cut(raw, *rest))
    first = opened(root, tmp_path).recording("01").read(range(44))
    assert len(calls) == 2  # one block a run
    np.testing.assert_array_equal(opened(root, tmp_path).recording("01").read(range(44)), first)
    assert len(calls) == 2
    opened(root, tmp_path, concept="none", part="none").recording("01")  # the same signals
    assert len(calls) == 2
    path = root / "sub-01/ses-b/eeg/sub-01_ses-b_task-things_run-01_channels.tsv"
    path.write_text(path.read_text().replace("bad", "good"))
    assert opened(root, tmp_path).recording("01").n_chans == 9
    assert len(calls) == 3  # session a was there
    opened(root, tmp_path, tmax=0.5).recording("01")
    assert len(calls) == 5


def test_an_interrupted_preparation_goes_on(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainalign.datasets.bids import store

    cut, calls = store._cut, []

    def interrupted(raw, *rest):
        calls.append(raw)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return cut(raw, *rest)

    monkeypatch.setattr(store, "_cut", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(root, tmp_path).recording("01")
    left = sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".lock")
    assert left == ["epochs.f32", "epochs.json"]  # of session a; nothing half-written of session b
    opened(root, tmp_path).recording("01")
    assert len(calls) == 3


def test_blocks_are_small_and_change_nothing(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainalign.datasets.bids import store

    whole = opened(made, tmp_path / "1").recording("02").read(range(24))
    monkeypatch.setattr(store, "BLOCK_BYTES", 50_000)
    np.testing.assert_array_equal(opened(made, tmp_path / "2").recording("02").read(range(24)), whole)


def test_the_name_holds_the_options(made: Path, tmp_path: Path) -> None:
    given = {"task": "things", "session": ["a"], "tmin": -0.1, "band": [None, 40], "channels": ["O1", "P+3:x,y"]}
    dataset = opened(made, tmp_path, **given)
    assert dataset.name == "bids:task=things:session=a:tmin=-0.1:band=none+40.0:channels=O1+P%2B3%3Ax%2Cy"
    again = open_dataset(dataset.name, made, cache_dir=tmp_path)
    assert isinstance(again, BidsDataset)
    assert again.options == dataset.options
    assert (again.name, again.facts()) == (dataset.name, dataset.facts())
    assert dataset.facts() != opened(made, tmp_path).facts()


def test_numbers_find_labels_with_zeros(made: Path, tmp_path: Path) -> None:
    assert len(opened(made, tmp_path, run=1).runs) == 3  # YAML reads run=01 as 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "things"}, "unknown option of bids 'tasks'; did you mean 'task'"),
        ({"task": "thing"}, "unknown task 'thing'; did you mean 'things'"),
        ({"session": "z"}, "unknown session 'z'"),
        ({"datatype": "fmri"}, "unknown value of datatype 'fmri'"),
        ({"datatype": "meg"}, "holds no meg; there is eeg"),
        ({"tmin": 0.5, "tmax": 0.1}, "the window is 0.5 to 0.1 s"),
        ({"tmin": "soon"}, "tmin is 'soon', expected a number"),
        ({"baseline": [-1, 0]}, "the baseline is -1 to 0 s, the window -0.2 to 1 s"),
        ({"baseline": 3}, "baseline is 3, expected two numbers"),
        ({"band": [40, 1]}, "give [low, high] in Hz"),
        ({"band": [1, 100]}, "was recorded at 200 Hz, band=100 asked for"),
        ({"sfreq": 500}, "was recorded at 200 Hz, sfreq=500 asked for"),
        ({"sfreq": 0}, "sfreq is 0 Hz"),
        ({"channels": "O9"}, "unknown channel 'O9'; did you mean"),
        ({"channels": "Fz"}, "every channel is marked bad"),
        ({"bads": "mend"}, "unknown value of bads 'mend'"),
        ({"where": "trial_type"}, "give COLUMN=VALUE"),
        ({"where": "kind=x"}, "unknown column 'kind'"),
        ({"concept": "category"}, "unknown column 'category'"),
        ({"part": "trial_type"}, "the part of 'c00/i00.png' is 'c00'"),
        ({"tmax": 30}, "no trial of subject 01 lies whole in its recording"),
        ({"where": "trial_type=nothing"}, "no event of 4 recordings names an image"),
    ],
)  # fmt: skip
def test_options_are_checked(made: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        opened(made, tmp_path, **options).recording("01")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_a_name() -> None:
    assert BidsOptions.read("sfreq=recorded:baseline=none") == BidsOptions(sfreq=None, baseline=None)
    assert BidsOptions.read("sfreq=recorded:baseline=none").text == "baseline=none:sfreq=none"
    with pytest.raises(InputError, match="option 'task' is given twice"):
        BidsOptions.read("task=a", task="b")
    with pytest.raises(InputError, match="'things' is not key=value"):
        BidsOptions.read("things")


def test_registered_and_opened_without_a_folder() -> None:
    dataset = open_dataset("bids")
    assert (dataset.name, dataset.subjects, dataset.info.virtual) == ("bids", (), False)
    assert dataset.facts() == {"name": "bids"}
    with pytest.raises(InputError, match="needs a folder; give it with --root DIR"):
        dataset.check()


def test_an_option_given_again_as_the_name_has_it_is_fine() -> None:
    """As `--data-option` of an analysis, beside the name that the run stored."""
    assert BidsOptions.read("task=a:band=0.1+40", task=["a"], band="0.1,40") == BidsOptions.read("task=a:band=0.1+40")
