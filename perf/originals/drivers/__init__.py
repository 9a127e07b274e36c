"""The originals' side of a comparison: each module runs one repository's own code, in an environment of its own.
Nothing here imports vgtool."""
