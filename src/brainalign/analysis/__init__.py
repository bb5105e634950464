"""What finished runs and sweeps say: layers, scaling, embedding maps; one module an analysis, found by name.

Examples
--------
>>> from brainalign.analysis import ANALYSES
>>> "layers" in ANALYSES
True
"""

from brainalign.analysis.registry import ANALYSES, analyze, find_analysis

__all__ = ["ANALYSES", "analyze", "find_analysis"]
