"""Which questions are asked, and in which split: of the facts of all pictures, by seed and content."""

from collections import Counter
from collections.abc import Sequence

from vgtool.build import questions
from vgtool.build.facts import Facts
from vgtool.build.questions import LOCALIZATION, Question, Shown
from vgtool.build.settings import Settings


def split(facts: Sequence[Facts], settings: Settings) -> dict[str, str]:
    """Picture -> split."""
    return questions.assign({one.image_id: one.units for one in facts}, settings.splits, settings.seed)


def chosen(facts: Sequence[Facts], settings: Settings) -> tuple[list[Question], Counter[str]]:
    """The questions that are asked, by picture, kind and class; and what was left out, by reason."""
    splits = split(facts, settings)
    left_out = sum((one.left_out for one in facts), Counter[str]())
    rows = [question for one in facts for question in one.asked if question.kind != LOCALIZATION]
    if LOCALIZATION in settings.kinds:
        positives = {one.image_id: {q.labels[0]: q for q in one.asked if q.kind == LOCALIZATION} for one in facts}
        if settings.negatives == "none":
            rows += [question for each in positives.values() for question in each.values()]
        else:
            usable = [one for one in facts if not one.skipped]
            whole = [
                Shown(
                    one.image_id,
                    (splits[one.image_id], one.dataset, one.modality),
                    positives[one.image_id],
                    one.present,
                )
                for one in usable
            ]
            chosen, dropped = questions.balanced(whole, settings.seed)
            rows += chosen
            left_out["localization: no picture without the class to balance it"] += dropped
            partly = sum(len(positives[one.image_id]) for one in facts if one.skipped)
            left_out["localization: the picture has a mask that cannot be read"] += partly
    return sorted(rows, key=lambda q: (q.image_id, q.kind, q.labels)), Counter({k: v for k, v in left_out.items() if v})
