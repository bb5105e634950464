"""Small pictures inside the page."""

from __future__ import annotations

import base64
import io

from brainalign.errors import InputError
from brainalign.stimuli import StimulusSet

SIDE = 160  # pixels: shown at about 130, sharp enough on a phone
QUALITY = 78


class Pictures:
    """Thumbnails and names of stimuli, whether or not their files are at hand.

    Parameters
    ----------
    stimuli : StimulusSet or None
        None where the images are not at hand: pictures are then missing and names are taken from the ids.
    """

    def __init__(self, stimuli: StimulusSet | None) -> None:
        self._stimuli = stimuli
        self._uris: dict[str, str | None] = {}

    def uri(self, stimulus_id: str) -> str | None:
        """The picture as a JPEG in a data address, or None where it cannot be read."""
        if stimulus_id not in self._uris:
            self._uris[stimulus_id] = self._read(stimulus_id)
        return self._uris[stimulus_id]

    def name(self, stimulus_id: str) -> str:
        """The image's concept, or the last part of its id."""
        concept = ""
        if self._stimuli is not None and stimulus_id in self._stimuli.ids:
            concept = self._stimuli.column("concept", [stimulus_id])[0]
        return concept.replace("_", " ") or stimulus_id.rsplit("/", 1)[-1]

    @property
    def missing(self) -> int:
        """How many of the pictures asked for could not be had."""
        return sum(uri is None for uri in self._uris.values())

    @property
    def asked(self) -> int:
        """How many pictures were asked for."""
        return len(self._uris)

    def _read(self, stimulus_id: str) -> str | None:
        if self._stimuli is None:
            return None
        try:
            image = self._stimuli.image(self._stimuli.row(stimulus_id))
        except InputError:
            return None
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
