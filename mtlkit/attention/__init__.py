"""Looking at attention: ``look`` reads masks from a run folder, figures and viewers draw what it returns.

Every tap ``mask/<task>/<level>`` with values (B, C, h, w) is drawn, whatever the architecture.
"""

from .figures import correlation_map, epochs, grid, levels, save, viewer
from .masks import Attention, correlation, look, looks, mean_off_diagonal, telling_channels

__all__ = [
    "Attention",
    "correlation",
    "correlation_map",
    "epochs",
    "grid",
    "levels",
    "look",
    "looks",
    "mean_off_diagonal",
    "save",
    "telling_channels",
    "viewer",
]
