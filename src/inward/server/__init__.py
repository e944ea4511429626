"""The page's server: one process, one or two networks, one computation at a time."""
