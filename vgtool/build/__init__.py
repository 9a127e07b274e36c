"""From segmentation masks to a grounding benchmark in vgtool's own format: `vgtool build`.

`layouts` names the published layouts, a file each, which hand over pictures with masks (`picture`); `facts` measures
one, `measure` and `questions` say how; `plan` chooses, `count` counts, `write` writes, and `make` is the whole way.
"""
