"""The rows of the commands that make pictures of pictures."""

from __future__ import annotations

from inward.methods.dream import dream
from inward.methods.invert import invert
from inward.methods.method import Method
from inward.methods.style import style
from inward.methods.texture import texture
from inward.results import Redrawn

REDRAW: tuple[Method, ...] = (
    Method(
        name="invert",
        command="invert",
        function=invert,
        takes="images",
        returns=Redrawn,
        question="What does this layer keep of the picture?",
        paper="Mahendran and Vedaldi 2015, arXiv:1412.0035",
    ),
    Method(
        name="texture",
        command="texture",
        function=texture,
        takes="images",
        returns=Redrawn,
        question="What is left of the picture where it no longer matters where anything is?",
        paper="Gatys, Ecker and Bethge 2015, arXiv:1505.07376; Heitz et al. 2021, arXiv:2006.07229",
    ),
    Method(
        name="style",
        command="style",
        function=style,
        takes="images",
        returns=Redrawn,
        question="What would the picture look like in the manner of another?",
        paper="Gatys, Ecker and Bethge 2015, arXiv:1508.06576; Gatys et al. 2017, arXiv:1611.07865",
    ),
    Method(
        name="dream",
        command="dream",
        function=dream,
        takes="images",
        returns=Redrawn,
        question="What does this layer see in the picture?",
        paper="Mordvintsev, Olah and Tyka 2015, Inceptionism (Google Research blog)",
    ),
)
