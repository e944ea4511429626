"""Results: plain frozen data. ``runs.folder`` saves them, ``draw`` shows them.

``len(result)`` is the number of images, ``result[i]`` the result of one, with a batch of one.
"""

from inward.results.attribution import Attribution, Kind
from inward.results.base import Result, describe, told
from inward.results.perturbation import Driven, Patched, Perturbation, Universal
from inward.results.redrawn import Redrawn
from inward.results.visualization import GRAY, Visualization

__all__ = [
    "GRAY",
    "Attribution",
    "Driven",
    "Kind",
    "Patched",
    "Perturbation",
    "Redrawn",
    "Result",
    "Universal",
    "Visualization",
    "describe",
    "told",
]
