"""Scripts that the Makefile calls; nothing of the product imports them."""
