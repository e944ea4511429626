"""inward: see inside image networks.

``inward.load`` or ``inward.Network.of`` makes a network; the methods look into it.
"""

from inward.errors import CallError, InwardError, InwardWarning
from inward.gradient import gradient, mean_gradient
from inward.methods import TABLE
from inward.methods.attacks import targeted_attack
from inward.methods.class_visualization import class_visualization
from inward.methods.saliency import saliency
from inward.methods.visualize import visualize
from inward.network import Network
from inward.network.load import load
from inward.pictures import read
from inward.studies.activations import activations
from inward.version import VERSION as __version__

__all__ = [
    "TABLE",
    "CallError",
    "InwardError",
    "InwardWarning",
    "Network",
    "__version__",
    "activations",
    "class_visualization",
    "gradient",
    "load",
    "mean_gradient",
    "read",
    "saliency",
    "targeted_attack",
    "visualize",
]
