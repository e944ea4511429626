"""The methods, one file a family, and the one table of them."""

from inward.methods.method import Method
from inward.methods.table import TABLE

__all__ = ["TABLE", "Method"]
