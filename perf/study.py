"""What the whole study takes, on paper: the sum of `vgtool plan` for every model on all of its questions.

python perf/study.py [CARD]       loads nothing; docs/scale.md says what is assumed
"""

import sys

from vgtool.records import ImageSource, Sample
from vgtool.registry import models
from vgtool.runs import plan, sizes

PROBED = 55_848
"""Questions: both splits of VGMED and of its natural counterpart."""
ANSWERED = {"vqa-rad": 1297, "slake": 2781, "path-vqa": 3362, "pmc-vqa": 2000, "omnimedvqa": 88_996, "mmmu-med": 1752}
"""Questions under the paper's protocols."""
STUDY = ("huatuogpt-vision-7b", "huatuogpt-vision-34b", "huatuogpt-v-bio", "llava-med", "llava-tri")
STUDY += ("vila-m3-8b", "vila-m3-13b", "medrega")
QUESTION = 120
"""Characters of a question."""


def questions(count: int) -> list[Sample]:
    """One question an image, the worst case: more of them share the image's pass."""
    source = ImageSource("none", bytes)
    return [
        Sample(str(i), str(i), source, "", "?" * QUESTION, "medical", "", "closed", reference="yes")
        for i in range(count)
    ]


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "h200"
    card, known = plan.card(name), models()
    work = {"probe": (questions(PROBED), 0), "refine": (questions(sum(ANSWERED.values())), 1)}
    total = [0.0, 0.0, 0.0]
    print(f"| model | 1e9 weights | image tokens | FLOPs | {name} hours, probe | {name} hours, refine |")
    print("|---|---|---|---|---|---|")
    for model in STUDY:
        spec = known[model]
        if spec.parameters is None:  # no public checkpoint: as large as its sibling
            sibling = known["huatuogpt-vision-7b"]
            spec = spec.model_copy(update={key: getattr(sibling, key) for key in ("parameters", "layers", "heads")})
        shape = sizes.shape(spec, None)
        plans = [plan.estimate(rows, [], shape, card, methods=methods) for rows, methods in work.values()]
        flops, hours = sum(one.flops for one in plans), [one.seconds / 3600 for one in plans]
        total = [a + b for a, b in zip(total, (flops, *hours), strict=True)]
        cells = [model, f"{spec.parameters:.1f}", shape.image_tokens, f"{flops:.1e}", *(f"{h:.1f}" for h in hours)]
        print("| " + " | ".join(map(str, cells)) + " |")
    print(f"| all | | | {total[0]:.1e} | {total[1]:.1f} | {total[2]:.1f} |")


if __name__ == "__main__":
    main()
