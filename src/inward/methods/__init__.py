"""The methods, one file a family, and the one table of them."""

from inward.methods.table import TABLE, Method

__all__ = ["TABLE", "Method"]
