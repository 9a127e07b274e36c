"""Questions as people type them, and as nobody should: blanks, other scripts, marks of chats and tokenizers."""

import random

PLAIN = (
    "Is there a lesion in the left lung?",
    "What is shown?",
    "yes",
    "Which organ is enlarged, the liver or the spleen?",
    "Answer the question using a single word or phrase.",
    "Is the heart > 50 % of the thorax?",
    "12.5 mm?",
    "T1/T2-FLAIR?",
    "A",
    "(a) cyst (b) mass",
    "Options: A: CT, B: MRI, C: X-ray, D: PET",
    "Is it a 3x4 cm mass at L4-L5?",
)
OTHER = (
    "肺部健康吗?",
    "左肺に病変はありますか",
    "Есть ли очаг?",
    "هل هناك آفة؟",
    "naïve façade coöperate",
    "µ-opioid ≥ 2 °C",
    "🫁 ok?",
    "ﬁne",
    "e\u0301",
    "Ａ１",
    "\u200bzero",
    "x\u00a0y",
    "x\u2581y",
    "\u2581",
    "…",
    "—",
)
BLANKS = ("  ", "\t", "\n", "\n\n", " \n ", "\r\n", "\u3000")
MARKS = (
    "<s>",
    "</s>",
    "<unk>",
    "<image>",
    "<|im_end|>",
    "<|im_start|>",
    "<|user|>",
    "<|assistant|>",
    "[INST]",
    "[/INST]",
    "USER:",
    "ASSISTANT:",
    "<img>",
    "<box>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<0x0A>",
    "{question}",
    "<",
    "|>",
    "<pad>",
    "<IMG_CONTEXT>",
)


def prompts(count: int, seed: int = 0) -> list[str]:
    """`count` different ones, the plain ones first; the same for the same seed."""
    rng = random.Random(seed)
    out = dict.fromkeys([*PLAIN, *OTHER])
    while len(out) < count:
        kinds = rng.choices((PLAIN, OTHER, BLANKS, MARKS), (6, 3, 3, 1), k=rng.randint(1, 4))
        parts = [rng.choice(kind) for kind in kinds]
        text = rng.choice(("", " ")).join(parts)
        if text.strip():
            out[text] = None
    return list(out)[:count]
