"""``tanda doctor``: what is wrong with an installation as a whole, why, and what mends it."""
