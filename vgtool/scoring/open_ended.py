"""Graded metrics of open answers, each from 0 to 1, over words as `vgtool.words` splits them.

    recall  share of the reference's words found in the answer, clipped to their counts (OpenRecall)
    bleu1   clipped unigram precision x brevity penalty, per sentence, no smoothing (Papineni et al. 2002)
    f1      harmonic mean of clipped precision and recall (SQuAD)
    exact   the words are the same
`recall (LLaVA-Med)` is that repository's own function, its normalisation included (`originals`): repeating a right word
raises it. Of several accepted references the best counts.
BERTScore needs a model and its own package; `bertscore` says exactly which were used.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from vgtool.benchmarks.references import accepted
from vgtool.errors import VgError, one_line
from vgtool.scoring.originals import llava_med_recall
from vgtool.words import words


def recall(answer: str, reference: str) -> float:
    """Clipped OpenRecall; 0 for a reference without words."""
    said, true = Counter(words(answer)), Counter(words(reference))
    return (said & true).total() / true.total() if true else 0.0


def bleu1(answer: str, reference: str) -> float:
    """Sentence BLEU-1."""
    said, true = Counter(words(answer)), Counter(words(reference))
    if not said or not true:
        return 0.0
    brevity = min(0.0, 1 - true.total() / said.total())
    return math.exp(brevity) * (said & true).total() / said.total()


def f1(answer: str, reference: str) -> float:
    """Token F1."""
    said, true = Counter(words(answer)), Counter(words(reference))
    hits = (said & true).total()
    return 2 * hits / (said.total() + true.total()) if hits else 0.0


def exact(answer: str, reference: str) -> float:
    """1 when the words are the same."""
    return float(words(answer) == words(reference))


def _best(metric: Callable[[str, str], float]) -> Callable[[str, str], float]:
    return lambda answer, reference: max(metric(answer, one) for one in accepted(reference))


METRICS: Mapping[str, Callable[[str, str], float]] = {
    name: _best(metric)
    for name, metric in {
        "recall": recall,
        "recall (LLaVA-Med)": llava_med_recall,
        "BLEU-1": bleu1,
        "F1": f1,
        "exact": exact,
    }.items()
}


def bertscore(
    answers: Sequence[str], references: Sequence[str], model: str, layer: int | None = None
) -> tuple[list[float], str]:
    """(F1 of each pair, a line naming model, layer, rescaling and versions). Not rescaled: a baseline exists only for
    some hub names and changes the numbers silently. A pair without a text on one side is 0, as in every other metric
    here, and is not given to bert-score, which ends on an empty text. VgError without the bertscore extra or without
    the weights."""
    try:
        import bert_score
        import transformers
    except ImportError:
        raise VgError("--bertscore needs a package that is not here.", "pip install 'vgtool[bertscore]'") from None
    try:
        scorer = bert_score.BERTScorer(model_type=model, num_layers=layer, rescale_with_baseline=False)
        wanted = [[one for one in accepted(text) if one.strip()] for text in references]
        asked = [at for at, text in enumerate(answers) if text.strip() and wanted[at]]
        scores = [0.0] * len(answers)
        if asked:
            _, _, found = scorer.score([answers[at] for at in asked], [wanted[at] for at in asked])
            for at, value in zip(asked, found.tolist(), strict=True):
                scores[at] = value
    except (OSError, KeyError) as error:
        raise VgError(
            f"--bertscore '{model}' cannot be loaded: {one_line(error)}.",
            "Give a model of bert-score's list, or a local folder with --bertscore-layer.",
        ) from None
    versions = f"bert-score {bert_score.__version__}, transformers {transformers.__version__}"
    return scores, f"BERTScore: {model}, layer {scorer.num_layers}, not rescaled, empty answers 0, {versions}."
