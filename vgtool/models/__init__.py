"""Models: one adapter per family, all giving token ids, pixel inputs, and the geometry that made them."""
