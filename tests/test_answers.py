"""Rules: what an answer means, case by case, each with its right outcome; and the published scorers' own outcomes."""

import pytest

from vgtool.benchmarks.references import accepted
from vgtool.scoring.answers import RULES, judge
from vgtool.scoring.yes_no import agree, read
from vgtool.words import words

OPTIONS = ("liver", "kidney", "left lung", "heart")
R, W, U = "right", "wrong", "undecided"


# answer, reference, outcome under strict, paper, huatuo, llava-med
CLOSED = [
    ("Yes", "yes", R, R, U, R),
    ("yes, it is", "yes", R, R, U, R),
    ("No.", "no", R, R, U, R),
    ("normal", "no", U, R, U, R),
    ("Normal", "yes", U, W, U, W),
    ("nodule", "no", U, R, U, R),
    ("unknown", "no", U, W, U, R),
    ("There is no fracture", "no", R, W, U, R),
    ("not seen", "no", U, R, U, R),
    ("It is not", "no", U, W, U, R),
    ("I do not know", "yes", U, W, W, W),
    ("yes and no", "yes", U, R, U, R),
    ("no, yes", "yes", U, W, U, R),
    ("", "yes", U, R, U, U),
    ("   ", "yes", U, W, U, U),  # the notebook strips nothing: three blanks are no part of Yes
    ("no", "yes", W, W, U, W),
    ("yes", "no", W, W, U, W),
    ("Yes\nbecause the heart is large", "yes", R, R, U, R),
    ("The heart is large: yes", "yes", R, W, U, R),
    ("A. yes", "yes", R, W, R, R),
    ("B", "no", U, W, R, W),
    ("A", "no", U, W, W, W),
    ("ｙｅｓ", "yes", R, W, U, W),  # full-width letters are other letters to the originals
    ("YES!!", "yes", R, R, U, R),
    ("eyes", "yes", U, W, U, R),
    ("left", "left", R, R, R, W),
    ("Left", "left", R, R, R, W),
    ("it is left", "left", W, W, W, W),
    ("lung", "Lung", R, R, R, W),
    ("是", "是", R, R, U, W),
    ("不是", "否", R, W, U, W),
    ("没有", "是", W, W, U, W),
    ("包含", "不包含", W, R, U, W),
    ("不包含", "不包含", R, R, U, W),
    ("存在", "是", R, W, U, W),
]
# answer, reference among OPTIONS, outcome under strict, huatuo
CHOICE = [
    ("B", "kidney", R, R),
    ("b", "kidney", R, W),
    ("b.", "kidney", R, W),
    ("(C)", "left lung", R, R),
    ("C)", "left lung", R, R),
    ("(c)", "left lung", R, W),
    ("B: kidney", "kidney", R, R),
    ("B. kidney", "liver", W, W),
    ("B. liver", "liver", U, W),  # a letter and another option's text: two answers
    ("The answer is D", "heart", R, R),
    ("the answer is (d).", "heart", R, W),
    ("Answer: A", "liver", R, R),
    ("option B", "kidney", R, R),
    ("A lesion in the kidney", "kidney", R, U),
    ("A lesion in segment B", "kidney", U, R),
    ("A lesion is seen", "liver", U, U),
    ("I think so", "liver", U, W),
    ("I", "liver", U, W),
    ("liver or kidney", "liver", U, U),
    ("answer is A. No, the answer is B", "kidney", U, W),
    ("Ｂ", "kidney", R, U),
    ("（Ｂ）", "kidney", R, U),
    ("E", "liver", U, W),
    ("Left lung.", "left lung", R, U),
    ("left  lung", "left lung", R, U),
    ("lung", "left lung", U, U),
    ("the heart", "heart", R, U),
    ("heartburn", "heart", U, U),
    ("**D**", "heart", R, R),
    ("答案是B", "kidney", R, R),
    ("\nB\n", "kidney", R, R),
    ("A\nliver", "liver", R, R),  # only a blank makes "A" an article to HuatuoGPT-Vision
    ("A\tliver", "liver", R, R),
    ("A\u00a0liver", "liver", R, R),
    ("A liver", "liver", R, U),
    ("It is \u662fC", "left lung", U, R),
    ("C\nbecause", "left lung", R, R),
    ("(C)\nyes", "left lung", R, R),
    ("C <|endoftext|>", "left lung", R, R),  # left in by whoever decoded it
    ("left lung</s>\n", "left lung", R, U),
    ("", "liver", U, U),
    ("none of them", "liver", U, U),
    ("LIVER", "liver", R, U),
]


@pytest.mark.parametrize("answer,reference,strict,paper,huatuo,llava_med", CLOSED)
def test_a_closed_answer_has_its_outcome_under_every_rule(
    answer: str, reference: str, strict: str, paper: str, huatuo: str, llava_med: str
) -> None:
    found = {rule: judge(answer, reference, "closed", None, rule) for rule in RULES}
    assert found == {"strict": strict, "paper": paper, "huatuo": huatuo, "llava-med": llava_med}


@pytest.mark.parametrize("answer,reference,strict,huatuo", CHOICE)
def test_a_choice_has_its_outcome(answer: str, reference: str, strict: str, huatuo: str) -> None:
    assert judge(answer, reference, "choice", OPTIONS) == strict
    assert judge(answer, reference, "choice", OPTIONS, "huatuo") == huatuo


def test_an_option_that_is_a_letter_wins_over_the_letter_of_an_option() -> None:
    assert judge("b", "B", "choice", ("A", "C", "B", "D")) == "right"


# What lmms-eval, VLMEvalKit and MedEvalKit read, and more ways of stating one letter; each is C of OPTIONS.
STATED = [
    "C", "c", "C.", "C)", "(C)", "[C]", "C:", "\"C\"", "'C'", "C!", "C\n", "**C**", "*C*", "__C__", "`C`",
    "# C", "**C.**",
    "**C**.", "C. left lung", "C) left lung", "C: left lung", "(C) left lung", "C - left lung", "C (left lung)",
    "C left lung", "**C. left lung**", "C\nThe image shows a lung.", "C. The image shows a lung.",
    "C, because it is large",
    "The answer is C", "The answer is: C", "The answer is C.", "The answer is (C).", "The answer is **C**.",
    "the answer is c", "answer: c", "Answer: C", "ANSWER: C", "Answer: (C) left lung", "**Answer:** C",
    "**Answer**: C",
    "Answer is: C) left lung", "The correct answer is C because it is large", "The correct answer is option C.",
    "The correct option is C", "The right choice would be C", "Final Answer: C", "final answer is C",
    "My answer is C", "Option C", "Option (C)", "Choice: C", "It is C", "It's C.", "This is C.", "I choose C",
    "I would go with (C).", "I would select option C.", "Thus, C", "So C.", "Therefore, the answer is C.",
    "Hence C",
    "C is correct", "C is the correct answer.", "(C) is right", "Option C is the best answer.",
    "The lung is large.\n\nC", "The lung is large. C.", "Looking at the lung, (C) fits.",
    "Seen the lung, **C** fits.",
    "<answer>C</answer>", "<answer> C </answer>", "<answer>\nC. left lung\n</answer>", "text <answer>C",
    "\\boxed{C}",
    "$\\boxed{C}$", "\\boxed{\\text{C}}", "The answer is \\boxed{C}.", "\\boxed{C. left lung}",
    "A. liver\nB. kidney\nC. left lung\nD. heart\nAnswer: C", "A. liver B. kidney C. left lung D. heart. It is C.",
    "The answer is not B, it is C.", "答案是C", "答案：C", "正确答案为C", "选C", "故选C。", "选择 C",
    "C选项正确", "C是正确的", "C正确",
    "Left lung", "LEFT LUNG.", "left  lung", "It is the left lung.", "the left lung, not the heart",
    "not the liver but the left lung",
    "<answer>left lung</answer>", "\\boxed{left lung}", "Answer: left lung",
]  # fmt: skip
BY_CHANCE = [
    "A lesion in the lung", "The answer is a mass", "The answer is A mass", "It is A mass", "I think so",
    "see panel (C)",
    "as in Figure (C)", "segment C", "The answer is C5.", "C-spine", "The answer is C-shaped", "C3 to C5",
    "vitamin C",
    "hepatitis (C)", "The answer is B or C", "B and C", "A, B and C", "C/D", "B, C", "Both (B) and (C)",
    "C is not correct",
    "C is incorrect", "The answer is not C", "not (C)", "E", "The answer is E", "C. difficile",
    "The answer is C. difficile",
    "answer is B. No, the answer is C", "<answer>B</answer><answer>C</answer>", "\\boxed{B} or \\boxed{C}",
    "left or right",
    "It is not the left lung", "no left lung is seen", "isn't the left lung", "C. heart",
    "A. liver\nB. kidney\nC. left lung\nD. heart",
    "I cannot tell.", "lung", "heartburn", "",
]  # fmt: skip


@pytest.mark.parametrize("answer", STATED)
def test_an_option_is_read_however_it_is_stated(answer: str) -> None:
    assert [judge(answer, one, "choice", OPTIONS) for one in OPTIONS] == [W, W, R, W]


@pytest.mark.parametrize("answer", BY_CHANCE)
def test_no_option_is_read_by_chance(answer: str) -> None:
    assert {judge(answer, one, "choice", OPTIONS) for one in OPTIONS} == {U}


@pytest.mark.parametrize(
    "answer,options,right",
    [
        ("The answer is a lead pipe.", ("gold", "iron", "lead"), "lead"),
        ("The answer is a lead pipe.", ("gold", "iron", "lead pipe"), "lead pipe"),
        ("D. Option A: gold", ("Option B: gold", "iron", "lead", "Option A: gold"), "Option A: gold"),
        ("The answer is C5.", ("C3", "C4", "C6", "C5"), "C5"),
        ("E. coli infection", ("B. cereus", "C. difficile", "S. aureus", "P. vivax", "E. coli"), "E. coli"),
        ("E. coli in the blood", ("E. coli", "S. aureus", "C. difficile", "P. vivax", "B. cereus"), "E. coli"),
        ("The answer is C. difficile", ("E. coli", "C. difficile", "S. aureus", "none"), "C. difficile"),
        ("C. difficile", ("E. coli", "C. difficile", "S. aureus", "none"), "C. difficile"),
        ("B", ("C", "A", "B", "D"), "B"),  # the text of an option is more than a letter
        ("vitamin C", ("vitamin A", "vitamin C", "iron"), "vitamin C"),
        ("1.0", ("5", "10", "1"), "1"),
        ("-2", ("2", "-2", "+2"), "-2"),
        (">5", ("<5", ">5"), ">5"),
        ("> 5 mm", ("< 5 mm", "> 5 mm"), "> 5 mm"),
        ("It is < 5 mm.", ("< 5 mm", "> 5 mm"), "< 5 mm"),
        ("ER-", ("ER+", "ER-"), "ER-"),
        ("The tumour is ER+.", ("ER+", "ER-"), "ER+"),
        ("CT", ("CT.", "ct", "CT"), "CT"),
        ("CT.", ("CT.", "ct", "CT"), "CT."),
        ("ct", ("CT.", "ct", "CT"), "ct"),
        ("It is the right lung", ("lung", "right lung", "left lung"), "right lung"),
        ("m²", ("m2", "m²"), "m²"),
    ],
)
def test_an_option_is_told_from_its_neighbours(answer: str, options: tuple[str, ...], right: str) -> None:
    assert [judge(answer, one, "choice",
    options) for one in options] == [R if one == right else W for one in options]


SAME = [
    ("-2", "-2"), ("−2", "-2"), ("> 5", ">5"), ("≥5", ">= 5"), ("50 %", "50%"), ("1,000", "1000"), ("3.0", "3"),
    (".5", "0.5"), ("x-ray", "X ray"), ("Left lung.", "left lung"), ("CT - MRI", "CT, MRI"), ("ＣＴ", "ct"),
    ("5 µm", "5 μm"),
    ("٣", "3"), ("straße", "STRASSE"), ("폐렴", "폐렴"), ("Лёгкое", "лёгкое"), ("肺炎", "肺 炎"), ("2.50 cm",
    "2.5cm"),
]  # fmt: skip
OTHER = [
    ("-2", "2"), (">5", "<5"), (">5", "5"), ("ER+", "ER-"), ("ER+", "ER"), ("5 µm", "5 m"), ("50%", "50"),
    ("2.5", "25"),
    ("1.0", "10"), (".5", "5"), ("2+", "3+"), ("2+", "2"), ("10²", "102"), ("+", "-"), ("±5", "5"), ("왼쪽",
    "오른쪽"),
    ("левый", "правый"), ("يسار", "يمين"), ("ひだり", "みぎ"), ("カタ", "ミギ"), ("αριστερά", "δεξιά"),
    ("बायां", "दायां"), ("ซ้าย", "ขวา"),
    ("קטן", "גדול"), ("肺", "肝"), ("naïf", "naf"),
]  # fmt: skip


@pytest.mark.parametrize("answer,reference", SAME)
def test_texts_of_one_value_are_the_same(answer: str, reference: str) -> None:
    assert words(answer) == words(reference) and judge(answer, reference, "open", None) == R


@pytest.mark.parametrize("answer,reference", OTHER)
def test_texts_of_two_values_are_not_the_same(answer: str, reference: str) -> None:
    assert judge(answer, reference, "open", None) == judge(reference, answer, "open", None) == W


# Chinese: what is so, what is normal, and what says neither; each pair is of one meaning or of two.
SO = ["是", "是的", "对", "对的", "有", "包含", "包括", "存在", "属于", "能", "可以", "会", "正确", "可见",
    "图中有肿瘤", "有的", "對", "屬於", "没错", "当然", "当然有", "确实", "确实有", "的确是", "肯定",
    "看得到", "能看到", "可能有肿瘤", "不错，是的"]
NOT_SO = [
    "不是", "否", "不", "不对", "没有", "没", "无", "不包含", "不包括", "不存在", "不属于", "不能", "不可以",
    "不会", "不正确", "不可见",
    "未见", "看不到", "图中没有肿瘤", "沒有", "不是的", "错误", "不可能", "看不见", "看不出", "并非如此", "确实没有", 
    "当然没有",
    "肯定不是", "的确不是", "可能没有", "並非如此",
]  # fmt: skip
NORMAL = ["正常", "健康", "没有异常", "无异常", "未见异常", "未见明显异常", "没有发现异常", "没有不正常",
    "肺部正常", "是正常的", "没什么异常", "未见明确异常", "没有看到什么异常", "未显示异常",
    "看不出异常", "未发现有异常", "没有任何明显的异常", "可能正常"]
ABNORMAL = ["不正常", "不健康", "异常", "有异常", "存在异常", "不太正常", "肺部异常", "不是正常的",
    "並非正常".replace("並", "并")]
NEITHER = ["可能", "有可能", "也许", "不错", "不一定", "未必", "不肯定",
    "不确定", "无法判断", "不清楚", "不知道", "对称", "不对称", "左侧", "是否", "难以确定", "肝脏"]


@pytest.mark.parametrize("yes,no", [(SO, NOT_SO), (NORMAL, ABNORMAL)])
def test_chinese_answers_agree_with_their_like_and_with_no_opposite(yes: list[str], no: list[str]) -> None:
    for mine, others in ((yes, no), (no, yes)):
        for answer in mine:
            assert {judge(answer, true, "closed", None) for true in mine if len(true) <= 4} == {R}, answer
            assert {judge(answer, true, "closed", None) for true in others if len(true) <= 4} == {W}, answer


@pytest.mark.parametrize("answer", NEITHER)
def test_a_chinese_answer_that_says_neither_is_undecided(answer: str) -> None:
    assert judge(answer, "是", "closed", None) == judge(answer, "没有", "closed", None) == U
    assert judge(answer, "正常", "closed", None) == U


def test_a_plain_yes_stands_for_normal_and_normal_for_no_plain_yes() -> None:
    assert agree(read("是"), read("正常")) is True and agree(read("不是"), read("健康")) is False
    assert agree(read("正常"), read("有")) is None, "the question may have been whether something is abnormal"
    assert agree(read("没有异常"), read("没有")) is True, "nothing is there"


@pytest.mark.parametrize("answer,outcome", [("<answer>Yes</answer>", R), ("\\boxed{No}", W), ("True", R),
    ("false", W),
                                            ("true lumen", U), ("nope", W), ("**Yes**", R)])  # fmt: skip
def test_a_closed_answer_is_read_where_it_is_stated(answer: str, outcome: str) -> None:
    assert judge(answer, "yes", "closed", None) == outcome


def test_any_of_several_accepted_references_is_right() -> None:
    assert accepted('["spleen", "lien"]') == ("spleen", "lien") and accepted("[1, 2]") == ("[1, 2]",)
    assert judge("Lien", '["spleen", "lien"]', "open", None) == R
    assert judge("liver", '["spleen", "lien"]', "open", None) == W
    assert judge("B", '["kidney", "heart"]', "choice", OPTIONS) == judge("D", '["kidney", "heart"]', "choice",
    OPTIONS) == R


def test_an_either_or_answer_that_names_both_is_none() -> None:
    options = ("PA", "AP")
    assert [judge(said, "AP", "closed", options) for said in ("AP", "it is AP", "PA", "PA or AP",
    "both")] == [R, R, W, U, U]


def test_huatuo_compares_letters_with_the_place_of_the_first_equal_option_as_list_index_does() -> None:
    assert judge("B", "ct", "choice", ("CT.", "ct"), "huatuo") == R
    assert judge("A", "ct", "choice", ("CT.", "ct"), "huatuo") == W
    assert judge("F", "ct", "choice", ("CT.", "ct"), "huatuo") == W, "beyond the options"
