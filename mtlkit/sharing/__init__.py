"""Looking at what a trained network learned to share: ``save`` writes whatever its architecture has to show.

Stitch matrices and NDDR's weights say what each task takes from which (``matrices``), AFA's gates how much the branches
mix, channel by channel and pixel by pixel (``gates``). Masks have a package of their own, ``mtlkit.attention``.
"""

from .gating import Gates, Seen, channel_gates, gate_viewer, gates, look, spatial_gates
from .mixing import Mixture, channel_spread, matrices, matrix_maps, matrix_viewer, own_share
from .saving import save

__all__ = [
    "Gates",
    "Mixture",
    "Seen",
    "channel_gates",
    "channel_spread",
    "gate_viewer",
    "gates",
    "look",
    "matrices",
    "matrix_maps",
    "matrix_viewer",
    "own_share",
    "save",
    "spatial_gates",
]
