"""The columns of the table of ascents: each file is one of them."""
