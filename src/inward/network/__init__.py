"""Any image network as a graph of named points."""

from inward.network.graph import Edit, Point
from inward.network.network import Network
from inward.network.preprocess import Preprocess
from inward.network.trace import Trace

__all__ = ["Edit", "Network", "Point", "Preprocess", "Trace"]
