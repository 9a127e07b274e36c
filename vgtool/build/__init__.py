"""From segmentation masks to a grounding benchmark in vgtool's own format: `vgtool build`.

`sources` reads the published layouts picture by picture, `measure` turns a mask into boxes and attributes, `questions`
words and balances, `make` writes the benchmark with its counts.
"""
