"""The version, from the installed distribution."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("inward")
except PackageNotFoundError:
    VERSION = "0+unknown"
