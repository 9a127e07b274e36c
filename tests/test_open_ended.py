"""Graded metrics of open answers, against nltk and cases worked by hand."""

from pathlib import Path

import pytest
from nltk.translate.bleu_score import sentence_bleu

from vgtool.errors import VgError
from vgtool.scoring import open_ended
from vgtool.scoring.originals import llava_med_normal, llava_med_recall

PAIRS = [
    ("left lung", "left lung"),
    ("the left lung lung lung", "left lung"),
    ("lung", "left lower lung"),
    ("", "heart"),
    ("a large mass in the liver", "mass"),
]


@pytest.mark.parametrize("answer,reference", PAIRS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bleu1_equals_nltk(answer: str, reference: str) -> None:
    expected = sentence_bleu([reference.split()], answer.split(), weights=(1, 0, 0, 0)) if answer else 0.0
    assert open_ended.bleu1(answer, reference) == pytest.approx(expected, abs=1e-12)


def test_recall_and_f1_of_cases_worked_by_hand() -> None:
    assert [open_ended.recall(a, r) for a, r in PAIRS] == pytest.approx([1, 1, 1 / 3, 0, 1])
    assert open_ended.recall("left left left", "left lung") == pytest.approx(1 / 2)
    assert [open_ended.f1(a, r) for a, r in PAIRS] == pytest.approx([1, 4 / 7, 1 / 2, 0, 2 / 7])
    assert [open_ended.exact(a, r) for a, r in PAIRS] == [1, 0, 0, 0, 0]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random BERT of eight words."""
    pytest.importorskip("bert_score", reason="the bertscore extra is not installed")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "lung", "heart"]
    (folder / "vocab.txt").write_text("\n".join(words))
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    return str(folder)


def test_bertscore_of_the_same_text_is_one_and_its_settings_are_named(bert: str, tmp_path: Path) -> None:
    scores, note = open_ended.bertscore(["left lung", "heart"], ["left lung", "left lung"], bert, 2)
    assert scores[0] == pytest.approx(1, abs=1e-4) and scores[1] < scores[0]
    assert "layer 2" in note and "not rescaled" in note
    with pytest.raises(VgError, match="no-such-model"):
        open_ended.bertscore(["a"], ["a"], str(tmp_path / "no-such-model"), 2)


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_bertscore_of_an_empty_answer_is_zero_and_changes_no_other(blank: str, bert: str) -> None:
    alone, _ = open_ended.bertscore(["left lung"], ["left heart"], bert, 2)
    both, _ = open_ended.bertscore([blank, "left lung", blank], ["left heart", "left heart", '["a", "b"]'], bert, 2)
    assert both == pytest.approx([0, alone[0], 0], abs=1e-5)
    assert open_ended.bertscore([blank], ["lung"], bert, 2)[0] == [0]
    assert open_ended.bertscore([], [], bert, 2)[0] == []


def test_llava_meds_recall_is_its_own_in_cases_worked_by_hand_from_its_functions() -> None:
    """normalize_word drops articles, turns number words into digits and signs into blanks; every repeat counts."""
    assert llava_med_recall("left left left", "left lung") == pytest.approx(3 / 4), "hits 3, missing 1"
    assert llava_med_recall("lung", "the left left lung") == pytest.approx(1 / 3), "missing counts twice, articles not"
    assert llava_med_recall("There are two.", "2") == llava_med_recall("none", "0") == 1
    assert llava_med_recall("left-sided", "left sided") == 1 and llava_med_recall("", "x") == 0
    assert open_ended.recall("the left left lung", "left lung") == 1, "ours clips"
    assert llava_med_normal("It isnt the A.P. view, 1,000 (approx.)") == "it isn't ap view 1000 approx"
    assert llava_med_normal("x." * 40).count(".") == 8, "re.UNICODE stands where the count does: 32 periods go"


def test_of_several_accepted_references_the_best_counts() -> None:
    assert [metric("lien", '["spleen", "lien"]') for metric in open_ended.METRICS.values()] == [1] * 5
