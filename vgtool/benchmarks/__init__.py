"""Benchmarks: one reader per published layout, all yielding `Sample`s and `Rejected` rows."""
