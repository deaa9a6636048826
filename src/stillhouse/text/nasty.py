# ruff: noqa: E501
"""Texts on which tokenizers go apart: what a second implementation must get right before it is believed."""

from __future__ import annotations

import random
from collections.abc import Sequence

PLAIN = (
    "", " ", "a", "The quick brown fox jumps over the lazy dog.", "I'm you're he'll they've it's don't I'd 'tis o'clock",
    "I'M YOU'RE HE'LL THEY'VE IT'S DON'T I'D", "'s's't'll're 've'x ''' '' 's", "don’t rock’n’roll „wait“ ‘so’",
    "def f(x):\n    return {'a': [1, 2.50, -3e-7], \"b\": x**2}  # done\n\n\n\tif not x:\n\t\tpass\n",
    "1 12 123 1234 12345678901234567890 1,000.00 3.14 ½ ² Ⅳ ٣٤ ४२ 𝟘𝟙 a1b2 1st 2nd 0x1F",
    "   leading", "trailing   ", "a  b   c    d     e", "a \n b \n\n c \r\n d \r e", "\r\n\r\n\n\r \t \v \f",
    "a\tb\t\tc \t d\t ", "x\x00y\x00\x00", "\x01\x02\x1b[31m\x7f\x80\x9f", "\ufeffBOM \ufffd\ufffe \u200b\u200c\u200d\u2060",
    "Grüße aus Köln: zwölf Brötchen für 3,40 €", "naïve café — “quotes” … ‹›", "Ωμέγα, Привет, שלום עולם, مرحبا بالعالم",
    "中文分词没有空格。日本語のテキスト、カタカナ。한국어 문장입니다.", "ไทยไม่มีช่องว่าง हिन्दी में क्षत्रिय ភាសាខ្មែរ",
    "e\u0301 n\u0303 a\u0308\u0304 \u0301alone Z\u0351\u036b\u0343\u036aalgo", "é vs e\u0301, Å vs A\u030a vs \u212b, ﬁ ﬅ ß ẞ İ ı ſ 'ſ K",
    "👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ✈️ #️⃣ 🧑🏿‍🚀x", "\u202eright to left\u202c \u2066iso\u2069 א1ב2", "𐍈 𝔘𝔫𝔦 𠜎 \U000e0041 \U0010ffff",
    "a\u00a0b\u2003c\u3000d\u2028e\u2029f\u0085g \u1680 \u205f", "\u1cd0\u20dd\ufe0f ̈", "¹²³ ⁴₅ ①㊿ 〇一二",
    "\U0001e4d0\U0001e4f0 \U00031350 \U00011f02 \U00010d6d \U00010d40 \U00011de0 \U000105c0 \U0001e5d0 \U0001c3ff\ua7dc\u1c89",
    "https://example.org/a/b?c=d&e=%20#f me@example.org C:\\dir\\file.txt ~/x ../y", "$x^2_{i,j}$ \\frac{a}{b} <b>&amp;</b> <!-- -->",
    "{\"k\": [null, true, -0.0], \"s\": \"\\u00e9\\n\"}", "CamelCaseWords snake_case_words kebab-case SCREAMING_CASE mixed123Case",
    "!!!???...,,,;;;:::---===+++***///\\\\\\|||~~~", "a.b.c a,b;c:d!e?f (g) [h] {i} <j>", "-5 +5 5% $5 #5 @5 &5", "_ __ ___ -_-",
    "«ÀÉ» ¿Qué? ¡Sí! ©®™ °C № § ¶ † ‡ • … ‰", "ﷺ ﷽ 𒐫 ⸻ ꧅", "\n", "\n\n", " \n", "\n ", "\t", "'", "''", "'s", " 's", "\\", "\"",
)  # fmt: skip

_RANGES = (
    (0x20, 0x7F), (0x80, 0x250), (0x300, 0x370), (0x370, 0x600), (0x900, 0xE00), (0x1100, 0x1200), (0x2000, 0x2070),
    (0x2100, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x5200), (0xAC00, 0xB000), (0xF900, 0x10000), (0x10000, 0x10A00),
    (0x1D400, 0x1D800), (0x1F300, 0x1FB00), (0x0, 0xD800), (0xE000, 0x110000),
)  # fmt: skip
_PIECES = (
    " ", "  ", "\n", "\r\n", "\t", "'s", "'T", "'ll", "1", "42", "a", "The", " the", "é", "e\u0301", "中", "ß", "_", "-",
    ".", "...", "(", "{", "\u00a0", "\u200d", "👍", "א", "٣", "\x00",
)  # fmt: skip


def nasty_texts(added: Sequence[str] = (), seed: int = 0) -> list[str]:
    """Some four hundred texts: whitespace, contractions, digits, code, scripts, marks, emoji, controls, long words, and
    random Unicode. The tokens in `added` stand among them, alone, side by side, cut and inside words.
    """
    draw = random.Random(seed)
    texts = list(PLAIN)
    texts += [
        "\n".join(PLAIN),
        " " * 1000 + "x",
        "\n" * 300,
        "ab" * 2000,
        "é" * 700,
        "x" + " \n" * 200,
        "9" * 400,
        "=" * 400,
    ]
    texts += ["".join(draw.choice(_PIECES) for _ in range(draw.randint(1, 40))) for _ in range(120)]
    for first, stop in _RANGES:
        for _ in range(8):
            characters = [
                draw.choice(" 1a'\n") if draw.random() < 0.2 else chr(draw.randrange(first, stop)) for _ in range(30)
            ]
            texts.append("".join(character for character in characters if not 0xD800 <= ord(character) < 0xE000))
    some = list(added) if len(added) <= 40 else [*added[:10], *draw.sample(list(added[10:]), 30)]
    for token in some:
        texts += [
            token,
            f"a{token}b",
            f" {token} ",
            f"  {token}\n{token}{token}",
            token[:-1],
            token[1:],
            token * 3 + "'s",
        ]
    if some:
        texts += [" ".join(draw.choice([*some, "word", "\n", "12"]) for _ in range(12)) for _ in range(10)]
    return texts
