"""Arrays in, pictures and pages out; nothing here knows what a network is."""

from inward.draw.bars import bars
from inward.draw.cells import grid
from inward.draw.charts import Panel, panels
from inward.draw.gallery import Cell, gallery
from inward.draw.maps import heat_map, overlay
from inward.draw.page import Figure, Section, page, save_page
from inward.draw.pictures import data_uri, read_png, save_png, to_bytes, to_picture
from inward.draw.plot import Line, curves
from inward.draw.sheets import curve, difference, side_by_side

__all__ = [
    "Cell",
    "Figure",
    "Line",
    "Panel",
    "Section",
    "bars",
    "curve",
    "curves",
    "data_uri",
    "difference",
    "gallery",
    "grid",
    "heat_map",
    "overlay",
    "page",
    "panels",
    "read_png",
    "save_page",
    "save_png",
    "side_by_side",
    "to_bytes",
    "to_picture",
]
