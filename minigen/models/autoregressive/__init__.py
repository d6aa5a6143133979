"""Models of one element after another: p(x) is the product of p(x_t | what came before)."""
