"""Ratios of our speed to a peer's: ``python -m benchmarks``."""
