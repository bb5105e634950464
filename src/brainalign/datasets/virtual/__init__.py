"""Recordings computed from a model of the brain whose every parameter is known (docs/virtual-brain.md)."""
