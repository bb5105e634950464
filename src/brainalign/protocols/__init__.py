"""Who trains, who validates, who is tested."""

from brainalign.protocols.lint import LintFinding, lint_settings, lint_split
from brainalign.protocols.registry import PROTOCOLS, find_protocol
from brainalign.protocols.sealed import OpenedTest, SealedTest, TestData
from brainalign.protocols.split import Protocol, Split

__all__ = [
    "PROTOCOLS",
    "LintFinding",
    "OpenedTest",
    "Protocol",
    "SealedTest",
    "Split",
    "TestData",
    "find_protocol",
    "lint_settings",
    "lint_split",
]
