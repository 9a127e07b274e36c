"""Yes or no, in English and Chinese: two questions that must not be mixed.

An English answer is read by the only one of yes and no that it has. A Chinese one says whether something is so
(是 / 不是, 有 / 没有) or whether it is normal (正常 / 不正常, 异常 / 没有异常), or both; two answers are compared
where they say the same thing, and a plain yes or no stands for normal or not where the truth says only that. Words
of doubt (不确定, 无法判断) are neither.
"""

from dataclasses import dataclass

import regex

from vgtool.words import words

YES, NO = {"yes", "yeah", "yep"}, {"no", "nope"}
WHOLE = {"true": True, "false": False}
"""Read only where they are the whole answer: a true lumen is no yes."""

_STEMS = "包含|包括|含有|存在|属于|屬於|显示|顯示|可见|可見|可以|能够|能|会|會|正确|正確|是|对|對|有|要|需要"
_DOUBT = regex.compile(
    r"不确定|不確定|不清楚|不知道|不能确定|不能判断|无法|無法|難以|难以|不好说|不一定|未必|不肯定|"
    r"是否|有无|有無|是不是|有没有|能否"
)
_HEDGE = regex.compile(r"有?(?<!不)可能|也许|也許|或许|或許|大概|不错|不錯")
"""Says nothing by itself, and takes nothing from what stands beside it. (不错 is right, or not bad.)"""
_ABNORMAL_NOT = (
    "没什么|沒什麼|没啥|没有|沒有|没|沒|无|無|未见|未見|不存在|未发现|未發現|未显示|未顯示|不含|看不到|看不见|看不見|看不出"
)
_NORMAL = regex.compile(
    rf"(?P<yes>(?:{_ABNORMAL_NOT})(?:看到|看见|看見|看出|发现|發現|见|見|显示|顯示|出现|出現|有|任何|什么|什麼|明显|明顯|明确|明確|显著|顯著|其他|的)*(?:异常|異常|不正常))"
    r"|(?P<no>(?:不|非|并非|不是)(?:太|很|完全|是)?(?:正常|健康))"
    r"|(?P<yes>正常|健康)|(?P<no>异常|異常)"
)
_PLAIN = regex.compile(
    r"(?P<yes>没错|沒錯|(?:当然|當然|的确|的確|确实|確實|肯定)(?!不|没|沒|无|無|否|未)|看得到|看得见|看得見)"
    r"|(?P<no>(?:没有?|沒有?|未)(?:看到|看见|看見|看出|发现|發現|见|見)有?)"
    rf"|(?P<no>(?:不|没|沒|并非|並非|未)(?:{_STEMS})(?:的)?(?!称|稱|比)"
    r"|不可能|并非如此|並非如此|没有|沒有|未见|未見|未发现|未發現|看不到|看不见|看不見|看不出|错误|錯誤|否|没|沒|无|無|错|錯)"
    rf"|(?P<yes>(?:{_STEMS})(?:的)?(?!称|稱|比|侧|側|应|應))"
)
_BARE_NO = regex.compile(r"不[。，,!！ ]*")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says: that it is so, that it is normal; None where it says nothing or both."""

    so: bool | None
    normal: bool | None = None

    def __bool__(self) -> bool:
        return self.so is not None or self.normal is not None


def read(text: str) -> Reading:
    """What an answer says."""
    found = [word.rstrip("+-") for word in words(text)]
    if len(found) == 1 and found[0] in WHOLE:
        return Reading(WHOLE[found[0]])
    yes, no = bool(set(found) & YES), bool(set(found) & NO)
    if yes != no:
        return Reading(yes)
    if yes or not regex.search(r"\p{Han}", text):
        return Reading(None)
    plain = "".join(found)
    if _DOUBT.search(plain):
        return Reading(None)
    if _BARE_NO.fullmatch(plain):
        return Reading(False)
    plain = _HEDGE.sub("", plain)
    return Reading(_only(_PLAIN, plain), _only(_NORMAL, plain))


def _only(form: regex.Pattern[str], text: str) -> bool | None:
    said = {found.lastgroup == "yes" for found in form.finditer(text)}
    return said.pop() if len(said) == 1 else None


def agree(answer: Reading, reference: Reading) -> bool | None:
    """Whether two readings say the same; None where the answer does not say."""
    if reference.normal is not None and answer.normal is not None:
        return answer.normal == reference.normal
    if reference.so is not None:
        return None if answer.so is None else answer.so == reference.so
    return None if answer.so is None else answer.so == reference.normal
