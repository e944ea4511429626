"""Studies: what many pictures say of a network, in one pass over them."""
