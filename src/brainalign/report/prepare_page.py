"""The quality page of prepared recordings: what was found, what was dropped, what the signals look like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainalign.datasets.things_eeg2.prepare.settings import N_SESSIONS
from brainalign.errors import InputError
from brainalign.files import read_json, write_json
from brainalign.report.figures import Panel
from brainalign.report.page import csv_text, data_uri, write_page
from brainalign.report.prepare_figures import UNITS, evoked_panel, noise_panel

SCHEMA = "brainalign.prepare-quality/1"
PARTS = {"train": "training", "test": "test"}
_HEAVY = ("evoked", "field_power", "conditions", "found", "kept", "noise_uv", "noise", "source")


def write_prepare_page(out: str | Path) -> dict[str, Any]:
    """Write `quality.html` and `quality.json` of a store that `brainalign prepare` made.

    Nothing in them depends on the time or the machine: the same store gives the same bytes.

    Parameters
    ----------
    out : path-like
        Folder with `sub-XX/quality.json`.

    Returns
    -------
    dict
        What `quality.json` holds; `findings` are sentences about what deserves a look.

    Raises
    ------
    InputError
        If the folder holds no prepared subject, or one was changed.
    """
    folder = Path(out)
    paths = sorted(folder.glob("sub-*/quality.json"))
    if not paths:
        raise InputError("holds no prepared subject", where=folder, hint="run brainalign prepare first")
    subjects, panels, rows, sources, findings = [], [], [], [], []
    for path in paths:
        try:
            one = read_json(path)
            name = str(one["subject"])
            panels.append((name, _panels(one)))
            rows.extend(_event_rows(one))
            sources.extend(_source_rows(one))
            findings.extend(_findings(one))
            subjects.append(_light(one))
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            problem = f"is not a quality file of brainalign prepare ({type(error).__name__}: {error})"
            raise InputError(problem, where=path, hint="remove this subject's folder and prepare it anew") from error
    document = {"schema": SCHEMA, "dataset": "things-eeg2", "findings": findings, "subjects": subjects}
    write_json(folder / "quality.json", document)
    write_page(
        "prepare.html",
        folder / "quality.html",
        title=_title(subjects),
        summary=_summary(subjects[0]),
        settings=_settings(subjects[0]),
        findings=findings,
        events=_table("events", rows),
        sources=_table("sources", sources),
        subjects=panels,
        document=data_uri(json.dumps(document, indent=1, ensure_ascii=False), "application/json"),
    )
    return document


def _title(subjects: Sequence[Mapping[str, Any]]) -> str:
    sessions = sum(len(one["session_numbers"]) for one in subjects)
    people = "1 subject" if len(subjects) == 1 else f"{len(subjects)} subjects"
    return f"THINGS-EEG2 prepared: {people}, {sessions} session{'s' if sessions != 1 else ''}"


def _panels(one: Mapping[str, Any]) -> list[Panel]:
    noise = noise_panel(one)
    return [evoked_panel(one), *([noise] if noise else [])]


def _light(one: dict[str, Any]) -> dict[str, Any]:
    """Without what the subject's own file holds at length."""
    sessions = []
    for session in one["sessions"]:
        parts = {}
        for part, facts in session["parts"].items():
            parts[part] = {k: v for k, v in facts.items() if k not in _HEAVY} | {
                "conditions": len(facts["conditions"]),
                "found": _counts(facts["found"]),
                "noise_uv_median": _median(facts["noise_uv"]),
                "noise_stored_median": _median(facts["noise"]),
            }
        sessions.append({"session": session["session"], "parts": parts})
    return {k: v for k, v in one.items() if k != "sessions"} | {"sessions": sessions}


def _counts(values: Sequence[int]) -> dict[str, int]:
    return {str(v): values.count(v) for v in sorted(set(values))}


def _median(values: Sequence[float] | None) -> float | None:
    import statistics

    return statistics.median(values) if values else None


def _event_rows(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for session in one["sessions"]:
        for part, facts in session["parts"].items():
            counts = _counts(facts["found"])
            rows.append(
                {
                    "subject": one["subject"],
                    "session": session["session"],
                    "part": PARTS[part],
                    "events": facts["events"],
                    "targets": facts["dropped_catch"],
                    "at the ends": facts["dropped_outside"],
                    "photos": len(facts["conditions"]),
                    "repetitions found": _repetitions(counts),
                    "surplus": facts["dropped_surplus"],
                    "kept": facts["trials"],
                    "noise, µV": _median(facts["noise_uv"]),
                    "as stored": _median(facts["noise"]),
                }
            )
    return rows


def _repetitions(counts: Mapping[str, int]) -> str:
    """`2`, or `1 (of 3 photos), 2 (of 197)` where photos differ."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{k} (of {n})" for k, n in counts.items())


def _source_rows(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"file": f"sub-{one['subject']}/{name}", "bytes": facts["bytes"], "sha256": facts["sha256"]}
        for name, facts in one["sources"].items()
    ]


def _findings(one: Mapping[str, Any]) -> list[str]:
    """What deserves a look, in sentences."""
    who = f"sub-{one['subject']}"
    found = []
    missing = sorted(set(range(1, N_SESSIONS + 1)) - set(one["session_numbers"]))
    if missing:
        found.append(f"{who}: sessions {missing} of the {N_SESSIONS} published ones are not there")
    for part, facts in one["photos"].items():
        if facts["trials_left_out"]:
            counts = ", ".join(f"{n} photos {k}" for k, n in facts["repetitions_kept"].items())
            found.append(
                f"{who}: {PARTS[part]} photos have unequal numbers of repetitions ({counts}); the store holds "
                f"{facts['repetitions']} of each, {facts['trials_left_out']} trials are left out"
            )
    for session, names in one["odd_channels"].items():
        text = "noise more than 3 times above or below the median channel's"
        found.append(f"{who} session {session}: {text}: {', '.join(names)}")
    return found


def _settings(one: Mapping[str, Any]) -> dict[str, str]:
    """Parameters in words."""
    s = one["settings"]
    channels = s["channels"] if isinstance(s["channels"], str) else ", ".join(s["channels"])
    band = f"{s['band'][0]:g} to {s['band'][1]:g} Hz, before epochs were cut" if s["band"] else "none"
    per = {"epoch": "within each epoch", "time": "over repetitions at each sample"}[s["covariance"]]
    whitening = (
        f"multivariate noise normalisation, covariance {per} from {s['fit_from']:g} s on (Ledoit-Wolf), mean over "
        "photos, fitted on the training trials of the session, applied to its training and test trials"
    )
    most = s["most_repetitions"]
    return {
        "Channels": f"{len(one['ch_names'])}: {channels}",
        "Epoch": f"{one['times'][0]:g} to {one['times'][-1]:g} s from onset, {len(one['times'])} samples",
        "Baseline": f"mean from {s['tmin']:g} to 0 s subtracted",
        "Rate": f"{s['sfreq']:g} Hz (recorded at {one['recorded_sfreq']:g} Hz)",
        "Band-pass": band,
        "Whitening": whitening if s["whitening"] == "mvnn" else "none",
        "Stored unit": UNITS.get(one["unit"], one["unit"]),
        "Repetitions a session": f"at most {most['train']} training, {most['test']} test; seed {s['seed']}",
        "Unit of the raw files": f"{one['file_unit']}, told by the size of the signals",
        "Versions": ", ".join(f"{name} {number}" for name, number in one["versions"].items()),
    }


def _summary(one: Mapping[str, Any]) -> str:
    return (
        f"{len(one['ch_names'])} channels, {one['times'][0]:g} to {one['times'][-1]:g} s, "
        f"{one['settings']['sfreq']:g} Hz, {UNITS.get(one['unit'], one['unit'])}"
    )


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "columns": list(rows[0]),
        "rows": [[_cell(value) for value in row.values()] for row in rows],
        "href": data_uri(csv_text(rows)),
    }


def _cell(value: Any) -> tuple[str, bool]:
    """Text of a cell, and whether it is words."""
    if value is None:
        return "not measured", True
    if isinstance(value, float):
        return f"{value:.3g}", False
    return (f"{value:,}", False) if isinstance(value, int) else (str(value), True)
