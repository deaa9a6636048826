"""Finding personal data and secrets: patterns propose, check digits decide.

Check digits follow the public definitions: IBAN ISO 13616 and 7064 (mod 97-10), cards ISO 7812 (Luhn), and each
country's own for its ids.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple


class Found(NamedTuple):
    """What was found between `start` and `end`: its kind, and what exactly (`email`, `US SSN`)."""

    kind: str
    start: int
    end: int
    what: str


class Pattern(NamedTuple):
    """A pattern, and a check of what it matches (in full).

    It is only looked for in a text with so many `digits` and (in lower case) one of `needs`: most texts have neither,
    and to look for a piece of text costs a hundredth of looking for a pattern.
    """

    what: str
    pattern: re.Pattern[str]
    holds: Callable[[re.Match[str]], bool]
    digits: int
    needs: tuple[str, ...]


def found_pii(text: str, kinds: Sequence[str]) -> list[Found]:
    """What is found, in order of place; where two overlap, the one whose kind stands first in `ORDER`."""
    found: list[Found] = []
    clues = Clues(sum(map(text.count, "0123456789")), text.lower())
    for kind in ORDER:
        if kind not in kinds:
            continue
        for one in _of_kind(kind, text, clues):
            if not any(one.start < other.end and other.start < one.end for other in found):
                found.append(one)
    return sorted(found, key=lambda one: one.start)


def redacted(text: str, kinds: Sequence[str]) -> str:
    """The text with `[kind]` in place of what is found."""
    parts, end = [], 0
    for one in found_pii(text, kinds):
        parts += [text[end : one.start], f"[{one.kind}]"]
        end = one.end
    return "".join([*parts, text[end:]]) if parts else text


class Clues(NamedTuple):
    """What a text holds: the number of its digits, and itself in lower case."""

    digits: int
    lower: str


def _of_kind(kind: str, text: str, clues: Clues) -> Iterator[Found]:
    for what, pattern, holds, digits, needs in PATTERNS[kind]:
        if clues.digits < digits or not (not needs or any(one in clues.lower for one in needs)):
            continue
        for match in pattern.finditer(text):
            if holds(match):
                start, end = match.span("it") if "it" in pattern.groupindex else match.span()
                yield Found(kind, start, end, what)


def digits_of(text: str) -> str:
    return "".join(character for character in text if character in "0123456789")


def luhn(digits: str) -> bool:
    """Whether the Luhn sum ends in 0."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


# Lengths by the IBAN registry (SWIFT, release 99): length -> countries.
_IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
IBAN_LENGTHS = {code: length for length, codes in _IBAN_COUNTRIES.items() for code in codes.split()}


def iban(text: str) -> bool:
    """Whether country, length and check digits are right (ISO 13616)."""
    plain = re.sub(r"[\s-]", "", text).upper()
    if IBAN_LENGTHS.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def credit_card(text: str) -> bool:
    """Whether issuer and length fit and the Luhn digit is right."""
    digits = digits_of(text)
    size, four = len(digits), int(digits[:4])
    known = (
        (digits[0] == "4" and size in (13, 16, 19))
        or (size == 16 and (5100 <= four <= 5599 or 2221 <= four <= 2720))
        or (size == 15 and digits[:2] in ("34", "37"))
        or (size in (16, 19) and (four == 6011 or 6440 <= four <= 6599 or digits[:2] == "62" or 3528 <= four <= 3589))
        or (size == 14 and (digits[:2] in ("36", "38", "39") or 3000 <= four <= 3059))
    )
    return known and luhn(digits)


def _phone(match: re.Match[str]) -> bool:
    text = match.group()
    digits = digits_of(text)
    if text.startswith("+"):
        return 8 <= len(digits) <= 15
    if text.lstrip("(").startswith("00"):
        return 10 <= len(digits) <= 17
    return 9 <= len(digits) <= 12


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_public_v6(text: str) -> bool:
    """Of the range in use (2000::/3), and long enough to be no slice or scope (`1::2`, `a::b`)."""
    return len(text) >= 8 and text[0] in "23" and _is_public(text)


def _looks_random(match: re.Match[str]) -> bool:
    """Of what a text calls a key: no word that people write. In bits a character, by the characters that occur."""
    value = match.group("it")
    size = len(value)
    entropy = -sum(count / size * math.log2(count / size) for count in Counter(value).values())
    return entropy >= 2.8 and any(character.isdigit() for character in value)


def us_ssn(text: str) -> bool:
    area, group, serial = text[:3], text[4:6], text[7:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def fr_nir(text: str) -> bool:
    plain = re.sub(r"\s", "", text).upper()
    body = plain[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and (int(plain[3:5]) in range(1, 13)) and 97 - int(body) % 97 == int(plain[13:])


def es_dni(text: str) -> bool:
    plain = text.upper().replace("-", "")
    body = str("XYZ".index(plain[0])) + plain[1:-1] if plain[0] in "XYZ" else plain[:-1]
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(body) % 23] == plain[-1]


_CF_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21] * 2 + [2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23],
        strict=True,
    )
)


def it_codice_fiscale(text: str) -> bool:
    plain = text.upper()
    total = 0
    for place, character in enumerate(plain[:15]):
        even = int(character) if character.isdigit() else ord(character) - ord("A")
        total += _CF_ODD[character] if place % 2 == 0 else even
    return chr(ord("A") + total % 26) == plain[15]


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        dt.date(year, month, day)
    except ValueError:
        return False
    return True


def pl_pesel(digits: str) -> bool:
    century, month = divmod(int(digits[2:4]), 20)
    year = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[century] + int(digits[:2])
    total = sum(int(digit) * weight for digit, weight in zip(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), strict=True))
    return _is_date(year, month, int(digits[4:6])) and total % 10 == 0


def se_personnummer(text: str) -> bool:
    digits = digits_of(text)[-10:]
    day = int(digits[4:6]) % 60  # a coordination number adds 60
    # 2000 for the year 00, which as 1900 would have no 29 February.
    return _is_date(2000 + int(digits[:2]), int(digits[2:4]), day) and luhn(digits)


def br_cpf(text: str) -> bool:
    digits = digits_of(text)
    if len(set(digits)) == 1:
        return False
    for size in (9, 10):
        total = sum(int(digit) * (size + 1 - place) for place, digit in enumerate(digits[:size]))
        if total * 10 % 11 % 10 != int(digits[size]):
            return False
    return True


def ch_ahv(text: str) -> bool:
    digits = digits_of(text)
    return sum(int(digit) * (1 + 2 * (place % 2)) for place, digit in enumerate(digits)) % 10 == 0


_VERHOEFF_PRODUCT = [
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
]  # fmt: skip
_VERHOEFF_ORDER = [
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
]  # fmt: skip


def in_aadhaar(text: str) -> bool:
    """Verhoeff's check (1969)."""
    check = 0
    for place, digit in enumerate(reversed(digits_of(text))):
        check = int(_VERHOEFF_PRODUCT[check][int(_VERHOEFF_ORDER[place % 8][int(digit)])])
    return check == 0


def de_steuer_id(text: str) -> bool:
    """ISO 7064 mod 11,10; of the first ten digits just one comes again, once or twice."""
    digits = digits_of(text)
    repeated = [count for count in Counter(digits[:10]).values() if count > 1]
    if len(digits) != 11 or digits[0] == "0" or repeated not in ([2], [3]):
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def nl_bsn(text: str) -> bool:
    digits = digits_of(text)
    if len(digits) != 9:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=True))
    return total % 11 == 0


def _always(match: re.Match[str]) -> bool:
    del match
    return True


def _whole(check: Callable[[str], bool]) -> Callable[[re.Match[str]], bool]:
    return lambda match: check(match.group("it") if "it" in match.re.groupindex else match.group())


def _pattern(
    what: str,
    pattern: str,
    holds: Callable[[re.Match[str]], bool] = _always,
    flags: int = 0,
    *,
    digits: int = 0,
    needs: tuple[str, ...] = (),
) -> Pattern:
    return Pattern(what, re.compile(pattern, flags | re.ASCII), holds, digits, needs)


_CUE = r"(?:pass(?:word|wd|phrase)?|secret|token|api[_ -]?key|access[_ -]?key|client[_ -]?secret|bearer|credential)s?"

# The surest first.
ORDER = ("secret", "email", "iban", "credit_card", "national_id", "ip", "phone")
PATTERNS: dict[str, tuple[Pattern, ...]] = {
    "secret": (
        _pattern(
            "private key",
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r"(?:.*?-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----)?",
            flags=re.DOTALL,
            needs=("private key",),
        ),
        _pattern("AWS key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", needs=("akia", "asia")),
        _pattern(
            "GitHub token",
            r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b",
            needs=("gh", "github_pat_"),
        ),
        _pattern("GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}", needs=("glpat-",)),
        _pattern("API key", r"\bsk-(?:ant-|proj-|or-)?[A-Za-z0-9_-]{20,}", needs=("sk-",)),
        _pattern("Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}\b", needs=("hf_",)),
        _pattern("Google key", r"\bAIza[0-9A-Za-z_-]{35}", needs=("aiza",)),
        _pattern("Slack token", r"\bxox[abeprs]-[A-Za-z0-9-]{10,}", needs=("xox",)),
        _pattern("Stripe key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}\b", needs=("k_live_", "k_test_")),
        _pattern("web token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}", needs=("eyj",)),
        _pattern(
            "password in a URL",
            r"\b[a-z][a-z0-9+.-]*://[^\s:/@]+:(?P<it>[^\s@/]+)@",
            flags=re.IGNORECASE,
            needs=("://",),
        ),
        _pattern(
            "key or password",
            rf"\b(?:\w*_)?{_CUE}[\"']?\s*(?:[:=]|=>|\bis\b)\s*[\"'`]?(?P<it>[A-Za-z0-9+/_.~!@#$%^&*-]{{8,}}={{0,2}})",
            _looks_random,
            flags=re.IGNORECASE,
            digits=1,
            needs=("pass", "secret", "token", "key", "bearer", "credential"),
        ),
        _pattern(
            "bearer token",
            r"\bBearer\s+(?P<it>[A-Za-z0-9+/_.~-]{20,}={0,2})",
            _looks_random,
            digits=1,
            needs=("bearer",),
        ),
    ),
    "email": (
        _pattern(
            "e-mail",
            r"(?<![\w.+-])[A-Za-z0-9][A-Za-z0-9._%+'-]{0,63}@"
            r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b",
            needs=("@",),
        ),
    ),
    "iban": (
        _pattern(
            "IBAN",
            r"[A-Z](?<![A-Za-z0-9].)[A-Z][0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])",
            _whole(iban),
            digits=4,
        ),
    ),
    "credit_card": (
        _pattern("credit card", r"[2-6](?<![\w.+-].)(?:[ -]?[0-9]){12,18}(?![\w-])", _whole(credit_card), digits=13),
    ),
    "national_id": (
        _pattern("US SSN", r"[0-9](?<![\w-].)[0-9]{2}-[0-9]{2}-[0-9]{4}(?![\w-])", _whole(us_ssn), digits=9),
        _pattern(
            "UK NINO",
            r"\b(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b",
            digits=6,
        ),
        _pattern(
            "FR NIR",
            r"[1-478](?<!\w.) ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[ABab]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b",
            _whole(fr_nir),
            digits=12,
        ),
        _pattern(
            "ES DNI",
            r"[XYZxyz0-9](?<!\w.)(?:(?<=[A-Za-z])-?[0-9]{7}|(?<=[0-9])[0-9]{7})-?[A-Za-z]\b",
            _whole(es_dni),
            digits=7,
        ),
        _pattern(
            "IT codice fiscale",
            r"\b[A-Z]{6}[0-9]{2}[ABCDEHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]\b",
            _whole(it_codice_fiscale),
            re.IGNORECASE,
            digits=7,
        ),
        _pattern("PL PESEL", r"[0-9](?<![\w.-].)[0-9]{10}(?![\w.-])", _whole(pl_pesel), digits=11),
        _pattern(
            "SE personnummer",
            r"[0-9](?<![\w-].)[0-9]{5}(?:[0-9]{2})?[-+][0-9]{4}(?![\w-])",
            _whole(se_personnummer),
            digits=10,
        ),
        _pattern("BR CPF", r"[0-9](?<!\w.)[0-9]{2}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b", _whole(br_cpf), digits=11),
        _pattern("CH AHV", r"\b756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}\b", _whole(ch_ahv), digits=13, needs=("756.",)),
        _pattern(
            "IN Aadhaar", r"[2-9](?<![\w-].)[0-9]{3} [0-9]{4} [0-9]{4}(?![\w-]| [0-9])", _whole(in_aadhaar), digits=12
        ),
        _pattern(
            "DE Steuer-ID",
            r"\b(?:steuer[- ]?(?:id|identifikations)?(?:[- ]?nummer|[- ]?nr\.?)?|idnr\.?|tax id)\W{1,10}"
            r"(?P<it>[1-9](?: ?[0-9]){10})\b",
            _whole(de_steuer_id),
            re.IGNORECASE,
            digits=11,
            needs=("steuer", "idnr", "tax id"),
        ),
        _pattern(
            "NL BSN",
            r"\b(?:bsn|burgerservicenummer|sofinummer)\W{1,10}(?P<it>[0-9]{9}|[0-9]{4}[ .][0-9]{2}[ .][0-9]{3})\b",
            _whole(nl_bsn),
            re.IGNORECASE,
            digits=9,
            needs=("bsn", "burgerservicenummer", "sofinummer"),
        ),
    ),
    "ip": (
        _pattern(
            "IPv4",
            r"[0-9](?<![\w.].)[0-9]{0,2}\.(?:[0-9]{1,3}\.){2}[0-9]{1,3}(?!\w|\.[0-9])",
            _whole(_is_public),
            digits=4,
            needs=(".",),
        ),
        _pattern(
            "IPv6",
            r"(?<![\w:.])(?=[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:)[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{2,34}(?![\w:])",
            _whole(_is_public_v6),
            needs=(":",),
        ),
    ),
    "phone": (
        _pattern("phone", r"\+(?<![\w+].)[1-9](?:[ ./()-]{0,2}[0-9]){6,14}(?!\w)", _phone, digits=8, needs=("+",)),
        _pattern(
            "phone", r"\((?<![\w.+-].)[2-9][0-9]{2}\) ?[2-9][0-9]{2}[ .-][0-9]{4}(?![\w-])", digits=10, needs=("(",)
        ),
        _pattern(
            "phone",
            r"[1-9](?<![\w.+-].)(?:(?<=1)[ .-][2-9])?[0-9]{2}[ .-][2-9][0-9]{2}[ .-][0-9]{4}(?![\w-])",
            digits=10,
        ),
        _pattern(
            "phone",
            r"[(0](?<![\w.+-].)(?<![0-9][ /-].)(?:(?<=0)|0)[0-9]{1,5}\)?(?:[ /-]\(?[0-9]{2,8}\)?){1,5}(?![\w-])",
            _phone,
            digits=9,
        ),
    ),
}
