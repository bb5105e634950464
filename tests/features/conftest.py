"""Fixtures of the features stage."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest

from brainalign.features import hub


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No name resolves; nothing may connect; the hub's cache is empty."""
    from huggingface_hub import constants

    def refuse(*_given, **_named):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    hub._reachable.cache_clear()
    yield
    hub._reachable.cache_clear()
