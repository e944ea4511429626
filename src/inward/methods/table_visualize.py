"""The rows of the command visualize."""

from __future__ import annotations

from inward.methods.class_visualization import class_visualization
from inward.methods.method import Method
from inward.methods.visualize import visualize
from inward.results import Visualization

VISUALIZE: tuple[Method, ...] = (
    Method(
        name="feature-visualization",
        command="visualize",
        function=visualize,
        takes="addresses",
        returns=Visualization,
        question="What does this unit look for?",
        paper="Olah, Mordvintsev and Schubert 2017, doi:10.23915/distill.00007",
    ),
    Method(
        name="class-visualization",
        command="visualize",
        function=class_visualization,
        takes="addresses",
        returns=Visualization,
        question="What does this class look like, by the classic recipe?",
        paper="Simonyan, Vedaldi and Zisserman 2013, arXiv:1312.6034; Yosinski et al. 2015, arXiv:1506.06579",
        of_classes=True,
    ),
)
