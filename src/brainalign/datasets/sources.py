"""Where the files of a public data set are: addresses as data (`things_meg.json`), and listings of OSF and figshare.

Listings are read at the moment of fetching: moved files are found, and OSF publishes sizes and sha256 there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from brainalign.datasets.base import Dataset
from brainalign.datasets.fetch import RemoteFile
from brainalign.errors import InputError, unknown_name

if TYPE_CHECKING:
    import requests

SCHEMA = "brainalign.sources/1"
LISTING_BYTES_MAX = 16 * 2**20
PAGES_MAX = 50
TIMEOUT_S = 30.0
EVERYBODY = ""

Listed = dict[str, dict[str, Any]]


def load_sources(name: str) -> dict[str, Any]:
    """The file of addresses that ships with brainalign.

    Parameters
    ----------
    name : str
        Registry name of the data set.

    Raises
    ------
    InputError
        If the file is missing or not of this version.
    """
    path = resources.files("brainalign.datasets") / f"{name.replace('-', '_')}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found.get("schema") != SCHEMA:
        raise InputError(f"is not of schema {SCHEMA}", where=path, hint="install brainalign anew")
    return found


def remote_files(dataset: type[Dataset], subjects: Sequence[str], variant: str | None = None) -> list[RemoteFile]:
    """Public files of some subjects (of all, where none is named), those that everybody needs last.

    Parameters
    ----------
    variant : str, optional
        One of several forms of the data, such as `raw`; the first one by default.

    Raises
    ------
    InputError
        If a subject or variant is unknown, or a listing cannot be had or lacks a file.
    """
    sources = load_sources(dataset.info.name)
    variants: dict[str, Any] = sources["variants"]
    chosen = variant or next(iter(variants))
    if chosen not in variants:
        raise unknown_name(f"variant of {dataset.info.name}", chosen, variants)
    for subject in subjects:
        if subject not in dataset.info.subjects:
            raise unknown_name(f"subject of {dataset.info.name}", subject, dataset.info.subjects)
    listings: dict[str, Listed] = {}
    files = []
    for subject in (*(subjects or dataset.info.subjects), EVERYBODY):
        for entry in variants[chosen]:
            if bool(entry.get("shared")) == (subject == EVERYBODY):
                files.append(_file(_filled(entry, subject), sources, listings))
    return files


def _filled(entry: Mapping[str, Any], subject: str) -> dict[str, Any]:
    """An entry with `{subject}` filled in, and what it says of this subject alone."""
    own = entry.get("by_subject", {}).get(subject, {})
    merged = {key: value for key, value in entry.items() if key != "by_subject"} | own
    return {
        key: value.replace("{subject}", subject) if isinstance(value, str) else value for key, value in merged.items()
    }


def _file(entry: Mapping[str, Any], sources: Mapping[str, Any], listings: dict[str, Listed]) -> RemoteFile:
    common = {"path": entry["path"], "about": entry.get("about_bytes"), "unpack": entry.get("unpack")}
    if "url" in entry:
        return RemoteFile(entry["url"], sha256=entry.get("sha256"), size=entry.get("bytes"), **common)
    failures = []
    for place in entry["listed_in"]:
        try:
            if place not in listings:
                listings[place] = _list(sources["listings"][place])
        except InputError as error:
            failures.append(str(error))
            continue
        found = listings[place].get(entry["name"])
        if found is not None:
            return RemoteFile(found["url"], sha256=found["sha256"], size=found["size"], **common)
        failures.append(f"{place} lists no {entry['name']}")
    hint = f"download it by hand from {sources['page']}"
    raise InputError("; ".join(failures), where=entry["name"], hint=hint)


def _list(listing: Mapping[str, str]) -> Listed:
    import requests

    with requests.Session() as session:
        pages = _pages(session, listing["url"], follow=listing["kind"] == "osf")
        try:
            read = _osf if listing["kind"] == "osf" else _figshare
            return {name: facts for page in pages for name, facts in read(page)}
        except (KeyError, TypeError, AttributeError) as error:
            problem = f"its answer is not the listing expected ({error})"
            raise InputError(problem, where=listing["url"], hint="its interface may have changed") from error


def _pages(session: requests.Session, url: str, *, follow: bool) -> Iterator[Any]:
    for _ in range(PAGES_MAX):
        page = _get_json(session, url)
        yield page
        following = page["links"].get("next") if follow else None
        if not following:
            return
        url = str(following)
    raise InputError(f"has more than {PAGES_MAX} pages", where=url, hint="this is not the listing expected")


def _get_json(session: requests.Session, url: str) -> Any:
    import requests

    try:
        with session.get(url, timeout=TIMEOUT_S, stream=True) as response:
            response.raise_for_status()
            content = response.raw.read(LISTING_BYTES_MAX + 1, decode_content=True)
        if len(content) > LISTING_BYTES_MAX:
            raise InputError("sends more than 16 MiB", where=url, hint="this is not the listing expected")
        return json.loads(content)
    except requests.RequestException as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"cannot be read ({reason})", where=url, hint="check the network") from error
    except (ValueError, RecursionError) as error:
        raise InputError("answers no JSON", where=url, hint="try again later") from error


def _osf(page: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files of an OSF storage, as its API v2 lists them (JSON:API)."""
    for row in page["data"]:
        facts = row["attributes"]
        if facts["kind"] == "file":
            hashes = (facts.get("extra") or {}).get("hashes") or {}
            yield (
                facts["name"],
                {
                    "url": row["links"]["download"],
                    "size": facts.get("size"),
                    "sha256": hashes.get("sha256"),
                },
            )


def _figshare(page: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files of a figshare article; figshare publishes MD5 only, so the first download's sha256 is recorded."""
    for row in page["files"] if isinstance(page, dict) else page:
        yield row["name"], {"url": row["download_url"], "size": row.get("size"), "sha256": None}
