"""Results on disk: what was computed, from what, and how to compute it again."""
