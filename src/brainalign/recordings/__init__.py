"""What was measured: trials of one subject in one modality."""

from brainalign.recordings.recording import Recording
from brainalign.recordings.rows import SignalSource

__all__ = ["Recording", "SignalSource"]
