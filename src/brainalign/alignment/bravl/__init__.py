"""BraVL: brain, image and text meet in one latent variable (Du, Fu, Li & He 2023, IEEE TPAMI 45:10760)."""

from brainalign.alignment.bravl.aligner import BravlAligner
from brainalign.recipes.bravl_settings import BravlSettings

__all__ = ["BravlAligner", "BravlSettings"]
