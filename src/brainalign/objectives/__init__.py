"""What training minimises."""

from brainalign.objectives.infonce import InfoNCE, info_nce

__all__ = ["InfoNCE", "info_nce"]
