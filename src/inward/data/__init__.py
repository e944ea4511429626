"""Labeled pictures to train on and to evaluate with."""

from inward.data.dataset import Arrays, Dataset
from inward.data.folders import Folder
from inward.data.sets import Part, Split, open_set

__all__ = ["Arrays", "Dataset", "Folder", "Part", "Split", "open_set"]
