"""Training small networks: normally, adversarially, or against counter-examples; stopped and resumed at will."""

from inward.training.loop import Watch, train
from inward.training.recipe import Recipe

__all__ = ["Recipe", "Watch", "train"]
