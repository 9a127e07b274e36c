"""Peak bytes of a batch beside what `vgtool plan` reckons with: a 7B model's shape, a sixteenth as wide.

python perf/memory.py [--images 1 8 16 --questions 1 4 --methods 0 2]

Counted are the tensors that operations make, on the CPU, without weights and inputs (tests/peak.py).
"""

import argparse
import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from peak import measured, narrow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--methods", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=0, help="0: as many as heads")
    parser.add_argument("--side", type=int, default=24, help="image tokens along a side")
    args = parser.parse_args()
    opened = narrow(args.layers, args.kv_heads, args.side)
    for images, questions, methods in product(args.images, args.questions, args.methods):
        found, reckoned = measured(opened, images, questions, methods)
        print(
            f"{images:3} images of {questions} questions, {methods} methods: {found / 1e6:7.1f} MB counted, "
            f"{reckoned / 1e6:7.1f} reckoned, {found / reckoned:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
