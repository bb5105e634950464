"""What was measured: trials of one subject in one modality."""

from brainalign.recordings.recording import Recording, SignalSource

__all__ = ["Recording", "SignalSource"]
