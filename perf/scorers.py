"""Published scorers' own functions beside vgtool's rules, on generated answers.

    python perf/scorers.py --llava-med DIR --huatuo DIR --paper DIR [--lmms-eval DIR --vlmevalkit DIR --medevalkit DIR]
        [--before DIR]
Each DIR is a checkout: LLaVA-Med at v1.0.0, HuatuoGPT-Vision with its scorer.py (f699d88), the paper's notebook
eval_RAD.ipynb, lmms-eval, VLMEvalKit, MedEvalKit; `--before` a checkout of an older vgtool. Their functions are cut out
of their files and run as they stand: give checkouts that you trust. Nothing is fetched.

Two tables: answers on which a compatibility rule and its original differ, with each difference (every form, and
`--drawn` answers put together at random); and, over every form of stating an answer, what is undecided and what is
wrong, by rule and by peer.
"""

import argparse
import ast
import json
import os
import random
import re
import string
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from generated import LETTERS, OPEN, OPTIONS, YES_NO, cases, drawn

from vgtool.scoring import answers as rules


def cut_out(file: Path, names: Sequence[str], given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Functions and constants of a source file, run as they stand without its other imports."""
    tree = ast.parse(file.read_text("utf-8"))
    kept = [
        node
        for node in tree.body
        if getattr(node, "name", None) in names
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in names)
    ]
    import copy
    import difflib
    import math

    import numpy as np

    space: dict[str, Any] = {"re": re, "random": random, "np": np, "string": string, "difflib": difflib, "math": math}
    space |= {"os": os, "cp": copy, "defaultdict": defaultdict, "Any": Any, "Counter": Counter} | (given or {})
    exec(compile(ast.Module(kept, []), str(file), "exec"), space)
    return space


# ---- originals of the compatibility rules ----------------------------------------------------------------------------


def paper_original(root: Path) -> Callable[[str, str], bool]:
    """The notebook's own lines on `answer`, `clean_response` and their containment."""
    cells = json.loads((root / "eval_RAD.ipynb").read_text("utf-8"))["cells"]
    lines = [line.strip() for cell in cells for line in "".join(cell["source"]).splitlines()]
    at = lines.index("answer = qa['answer'].capitalize()")
    body = [line for line in lines[at : at + 5] if line]
    test = body[2].removeprefix("if ").rstrip(":")
    code = compile("\n".join([*body[:2], f"right = {test}"]), "eval_RAD.ipynb", "exec")

    def run(answer: str, reference: str) -> bool:
        space: dict[str, Any] = {"qa": {"answer": reference}, "response_qs": answer}
        exec(code, space)
        return space["right"]

    return run


def huatuo_original(root: Path) -> Callable[[str, str, Sequence[str]], bool | None]:
    """test_choice_llava's two lines on one row; None where it stops with an exception."""
    space = cut_out(
        root / "scorer.py", ["str_similarity", "find_most_similar_index", "match_choice3", "test_mmlu", "wrong_ans"]
    )

    def run(answer: str, reference: str, options: Sequence[str]) -> bool | None:
        row = {"model_output": answer, "options": list(options), "image": ["x.png"], "dataset": "d"}
        row["answer"] = "ABCDEFGHIJK"[row["options"].index(reference)]
        try:
            return space["test_mmlu"](row)
        except AttributeError:
            return None

    return run


def llava_med_original(root: Path) -> tuple[Callable[[str, str], bool], Callable[[str, str], float]]:
    """evaluate's branch for CLOSED rows, and the recall of calculate_f1score as it calls it."""
    folder = root / "llava/eval/eval_metrics"
    words = cut_out(
        folder / "glossary.py",
        ["contractions", "manual_map", "articles", "period_strip", "comma_strip", "punct", "normalize_word"],
    )
    split = cut_out(folder / "utils.py", ["split_sentence"])
    metric = cut_out(folder / "evaluate_metrics.py", ["calculate_f1score"], {**words, **split})
    normal = words["normalize_word"]

    def closed(answer: str, reference: str) -> bool:
        pred_value, gt_value = normal(answer.lower()), normal(reference.lower())
        return ("yes" in pred_value or "no" in pred_value) and gt_value in pred_value

    def recall(answer: str, reference: str) -> float:
        return metric["calculate_f1score"](normal(answer.lower()), normal(reference.lower()))[2]

    return closed, recall


def compatibility(args: argparse.Namespace) -> None:
    """Answers on which a rule and its original differ."""
    from vgtool.scoring.originals import llava_med_recall

    made = list(dict.fromkeys((case.answer, case.options) for case in cases()))
    odd, rows = drawn(args.drawn), random.Random(1)
    made += [(answer, rows.choice(OPTIONS)) for answer in odd]
    plain = list(dict.fromkeys([*YES_NO, *OPEN, *(answer for answer, _ in made)]))
    print(f"{len(plain):,} different answers, {len(odd):,} of them put together at random\n")
    paper, huatuo = paper_original(args.paper), huatuo_original(args.huatuo)
    closed, recall = llava_med_original(args.llava_med)
    truths = ("yes", "no", "Yes", "left lung", "Normal", "2", "the mass", "isn't seen")

    def outcome(right: bool | None) -> str:
        return "undecided" if right is None else "right" if right else "wrong"

    def ours(rule: str, answer: str, truth: str, kind: str, options: Sequence[str] | None = None) -> str:
        found = rules.judge(answer, truth, kind, options, rule)
        return "wrong" if found == "undecided" and rule == "llava-med" else found  # an empty answer: no right one there

    def compared(name: str, pairs: Iterator[tuple[Any, Any, Any]]) -> None:
        total, differing = 0, []
        for given, mine, theirs in pairs:
            total += 1
            if mine != theirs:
                differing.append((given, mine, theirs))
        print(f"| {name} | {total:,} | {len(differing)} |")
        for given, mine, theirs in differing[:20]:
            print(f"    {given!r}: vgtool {mine}, original {theirs}")

    print("| rule | answers x references | differ |\n|---|---|---|")
    compared("paper", (((a, t), ours("paper", a, t, "closed"), outcome(paper(a, t))) for a in plain for t in truths))
    compared("huatuo, options", (
        ((a, t, o), ours("huatuo", a, t, "choice", o), outcome(huatuo(a, t, o))) for a, o in made for t in o
    ))  # fmt: skip
    compared("huatuo, yes/no", (
        ((a, t), ours("huatuo", a, t, "closed"), outcome(huatuo(a, t, ("yes", "no"))))
        for a in plain for t in ("yes", "no")
    ))  # fmt: skip
    compared(
        "llava-med, closed",
        (((a, t), ours("llava-med", a, t, "closed"), outcome(closed(a, t))) for a in plain for t in truths),
    )
    compared("recall (LLaVA-Med)", (
        ((a, t), llava_med_recall(a, t), recall(a, t)) for a in plain for t in (*truths, *OPEN) if t
    ))  # fmt: skip


# ---- what each reads -------------------------------------------------------------------------------------------------

Reader = Callable[[str, Sequence[str]], int | None]


def by_judge(judge: Callable[..., str]) -> Reader:
    def read(answer: str, options: Sequence[str]) -> int | None:
        right = [i for i, one in enumerate(options) if judge(answer, one, "choice", options, "strict") == "right"]
        return right[0] if len(right) == 1 else None

    return read


def peers(args: argparse.Namespace) -> dict[str, Reader]:
    found: dict[str, Reader] = {}
    if args.lmms_eval:
        lmms = cut_out(
            args.lmms_eval / "lmms_eval/tasks/_task_utils/mmmu_mcq_utils.py", ["parse_mmmu_multi_choice_response"]
        )

        def read_lmms(answer: str, options: Sequence[str]) -> int | None:
            known = {LETTERS[i]: one for i, one in enumerate(options)}
            return LETTERS.index(lmms["parse_mmmu_multi_choice_response"](answer, list(known), known))

        found["lmms-eval (MMMU)"] = read_lmms
    if args.vlmevalkit:
        kit = cut_out(
            args.vlmevalkit / "vlmeval/utils/matching_util.py",
            ["_VERBOSE_ANSWER_RE", "can_infer_option", "can_infer_text", "can_infer"],
        )

        def read_kit(answer: str, options: Sequence[str]) -> int | None:
            said = kit["can_infer"](answer, {LETTERS[i]: one for i, one in enumerate(options)})
            return LETTERS.index(said) if said and said in LETTERS[: len(options)] else None

        found["VLMEvalKit"] = read_kit
    if args.medevalkit:
        names = ["str_similarity", "find_most_similar_index", "judge_multi_choice", "parse_response", "extract"]
        med = cut_out(
            args.medevalkit / "utils/utils.py", [*names, "get_content_between_a_b"], {"extract_boxed_content": _boxed}
        )

        def read_med(answer: str, options: Sequence[str]) -> int | None:
            shown = [f"{LETTERS[i]}. {one}" for i, one in enumerate(options)]
            said = med["extract"](answer, "answer")
            right = [i for i in range(len(options)) if med["judge_multi_choice"](shown, LETTERS[i], said)]
            return right[0] if len(right) == 1 else None

        found["MedEvalKit"] = read_med
    return found


def _boxed(text: str) -> str:
    """As mathruler.grader: what stands in the last \\boxed{...}; "None" for none."""
    at = text.rfind("\\boxed{")
    depth, rest = 0, text[at + 7 :]
    for end, letter in enumerate(rest if at >= 0 else ""):
        depth += (letter == "{") - (letter == "}")
        if depth < 0:
            return rest[:end].strip()
    return "None"


def forms(args: argparse.Namespace) -> None:
    """Over every form: the share undecided and the share read as another option than the one stated."""
    made = list(dict.fromkeys(cases()))
    readers: dict[str, list[int | None]] = {}
    if args.before:
        asked = json.dumps([[case.answer, case.options] for case in made])
        script = (
            "import json, sys; from vgtool.scoring.answers import judge\n"
            "def read(a, o):\n    r = [i for i, t in enumerate(o) if judge(a, t, 'choice', o, 'strict') == 'right']\n"
            "    return r[0] if len(r) == 1 else None\n"
            "print(json.dumps([read(a, o) for a, o in json.load(sys.stdin)]))"
        )
        env = {**os.environ, "PYTHONPATH": str(args.before.resolve())}
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=asked,
            env=env,
            cwd=args.before,
            capture_output=True,
            text=True,
            check=True,
        )
        readers["strict, before"] = json.loads(done.stdout)
    readers["strict"] = [by_judge(rules.judge)(case.answer, case.options) for case in made]
    random.seed(0)
    for name, read in peers(args).items():
        readers[name] = [read(case.answer, case.options) for case in made]
    one = [i for i, case in enumerate(made) if case.stated is not None]
    none = [i for i, case in enumerate(made) if case.stated is None]
    print(f"\n{len(one):,} answers that state an option, {len(none):,} that state none\n")
    print("| reader | undecided % | wrong option % | an option where none is stated % |\n|---|---|---|---|")
    for name, found in readers.items():
        undecided = sum(found[i] is None for i in one) / len(one)
        wrong = sum(found[i] not in (None, made[i].stated) for i in one) / len(one)
        chance = sum(found[i] is not None for i in none) / len(none)
        print(f"| {name} | {100 * undecided:.1f} | {100 * wrong:.1f} | {100 * chance:.1f} |")
    if args.verbose:
        for name in ("strict, before", "strict"):
            missed = Counter(made[i].form for i in one if name in readers and readers[name][i] != made[i].stated)
            print(f"\n{name}: forms missed", dict(missed.most_common()))
        for i in none:
            if readers["strict"][i] is not None:
                print(made[i], readers["strict"][i])
        for i in one:
            if readers["strict"][i] != made[i].stated:
                print(made[i], readers["strict"][i])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("llava-med", "huatuo", "paper"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("lmms-eval", "vlmevalkit", "medevalkit", "before"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--drawn", type=int, default=6000, help="answers put together at random")
    parser.add_argument("--verbose", action="store_true", help="name every form that is missed")
    args = parser.parse_args()
    compatibility(args)
    forms(args)


if __name__ == "__main__":
    main()
