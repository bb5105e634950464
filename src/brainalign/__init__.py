"""Align brain signals with vision and language, and say how far the score can be trusted."""

from __future__ import annotations

__version__ = "0.1.0"
