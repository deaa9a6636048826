from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Import, Keep, RecipeError, Session
from stillhouse.curate import _pii
from stillhouse.curate._pii import found_pii, luhn, redacted
from stillhouse.curate.pii import KINDS, NoPii, Pii

TOKEN = "gh" + "p_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
# (a text, what is found in it, and as what)
PRESENT = [
    ("write to ann.lee+news@mail.example.co.uk, please", "ann.lee+news@mail.example.co.uk", "email"),
    ("<Ann@Example.org>", "Ann@Example.org", "email"),
    ("call +49 30 901820 today", "+49 30 901820", "phone"),
    ("call +1 (415) 555-2671 now", "+1 (415) 555-2671", "phone"),
    ("tel. (415) 555-2671", "(415) 555-2671", "phone"),
    ("or 415-555-2671.", "415-555-2671", "phone"),
    ("Tel 030/901 820 33", "030/901 820 33", "phone"),
    ("on 020 7946 0958", "020 7946 0958", "phone"),
    ("IBAN DE89 3704 0044 0532 0130 00 at the bank", "DE89 3704 0044 0532 0130 00", "iban"),
    ("to GB82WEST12345698765432.", "GB82WEST12345698765432", "iban"),
    ("card 4111 1111 1111 1111, 12/30", "4111 1111 1111 1111", "credit_card"),
    ("amex 378282246310005", "378282246310005", "credit_card"),
    ("from 8.8.8.8 at noon", "8.8.8.8", "ip"),
    ("from 2001:4860:4860::8888 at noon", "2001:4860:4860::8888", "ip"),
    (f"export {TOKEN} there", TOKEN, "secret"),
    ("id AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE", "secret"),
    ("api_key = 'q8Zt31LmVx0pWc7N'", "q8Zt31LmVx0pWc7N", "secret"),
    ("the password is tr0ub4dor&3x!", "tr0ub4dor&3x!", "secret"),
    ("postgres://ann:hunter2@db/orders", "hunter2", "secret"),
    ("ssn 078-05-1120", "078-05-1120", "national_id"),
    ("NINO AB 12 34 56 C", "AB 12 34 56 C", "national_id"),
    ("Steuer-ID: 18 063 290 757", "18 063 290 757", "national_id"),
    ("BSN 913594696", "913594696", "national_id"),
    ("PESEL 91242763587", "91242763587", "national_id"),
    ("DNI 02285190W", "02285190W", "national_id"),
    ("aadhaar 5211 2276 8468", "5211 2276 8468", "national_id"),
]
ABSENT = [
    "two lattes @ 4.50, please",
    "on 2024-02-29 at 12:30:45, or 29.02.2024",
    "version 1.2.3 and 1.2.3.4.5, range 10-20, 3:1, 1::2 slices",
    "localhost 127.0.0.1, router 192.168.0.1, 999.8.8.8",
    "DE89 3704 0044 0532 0130 01",
    "card 4111 1111 1111 1112 and 1234567890123456",
    "the order 123456789012, 1,000,000 of 12345678",
    "ssn 000-12-3456, 666-12-3456, 912-34-5678",
    "my password is wonderful today",
    "the token is a word, the secret: nobody knows",
    "pi is 3.14159265358979",
    "sum = 12 + 34 - 56",
    "the bsn of someone: 913594697",
    "91242763587 and 25922025095 in a list"[12:],
    "std::vector<int> and a::b, ff:ee",
]


@pytest.mark.parametrize(("text", "what", "kind"), PRESENT)
def test_what_is_there_is_found_whole(text: str, what: str, kind: str) -> None:
    assert [(text[one.start : one.end], one.kind) for one in found_pii(text, KINDS)] == [(what, kind)]
    assert redacted(text, KINDS) == text.replace(what, f"[{kind}]")


@pytest.mark.parametrize("text", ABSENT)
def test_what_only_looks_alike_is_left_alone(text: str) -> None:
    assert found_pii(text, KINDS) == []


# Made, and judged, with python-stdnum 2.2: right ones and ones whose check digits are wrong.
REFERENCE: dict[str, tuple[list[str], list[str]]] = {
    "br_cpf": (["469.264.079-08", "253.949.161-87"], ["444.940.260-93", "323.905.056-21"]),
    "ch_ahv": (["756.9634.3978.09", "756.4115.0373.97"], ["756.2746.0453.29", "756.9241.1806.88"]),
    "de_steuer_id": (["18063290757", "52814553973", "68973125505"], ["99420029944", "40346409380"]),
    "es_dni": (["Y3689847V", "02285190W", "79900230R"], ["81942990A", "X5423158L"]),
    "fr_nir": (["136122B67065529", "131109972733362"], ["255121126606384", "259052A84474169"]),
    "in_aadhaar": (["5211 2276 8468", "2783 3356 3002"], ["3449 4135 9243", "4053 2946 2317"]),
    "it_codice_fiscale": (["NMXBAU67M57F569E", "IGOZWN27R27O806B"], ["QTFBWF74L43Q331Q", "FXDWSY66M24B601U"]),
    "nl_bsn": (["913594696", "270660999"], ["287911015", "198520356"]),
    "pl_pesel": (["91242763587", "25922025094"], ["60212568785", "40072770844"]),
    "se_personnummer": (["981223-9813", "430714-8181"], ["851215-3519", "970921-3943"]),
    "iban": (
        ["DE89370400440532013000", "FR1420041010050500013M02606", "NO9386011117947"],
        ["DE00370400440532013000", "XX89370400440532013000"],
    ),
    "credit_card": (
        ["5555555555554444", "6011111111111117", "30569309025904"],
        ["4222222222222222", "9999999999999995"],
    ),
}


@pytest.mark.parametrize("name", list(REFERENCE))
def test_check_digits_are_worked_out_as_each_country_does(name: str) -> None:
    check: Callable[[str], bool] = getattr(_pii, name)
    right, wrong = REFERENCE[name]
    assert [check(one) for one in right] == [True] * len(right)
    assert [check(one) for one in wrong] == [False] * len(wrong)


@given(st.text("0123456789", min_size=2, max_size=19))
def test_one_digit_makes_any_number_pass_luhn(digits: str) -> None:
    assert sum(luhn(digits + last) for last in "0123456789") == 1


noise = st.text("aB1 .,:@+-/()€é\n", max_size=20)


@given(noise, st.sampled_from(PRESENT), noise)
def test_redacting_leaves_nothing_to_find_and_the_rest_alone(
    before: str, case: tuple[str, str, str], after: str
) -> None:
    text = f"{before}\n{case[0]}\n{after}"
    once = redacted(text, KINDS)
    assert redacted(once, KINDS) == once
    found = found_pii(text, KINDS)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    rest = "".join(
        text[end:start]
        for end, start in zip([0, *(f.end for f in found)], [*(f.start for f in found), len(text)], strict=True)
    )
    assert re.sub(r"\[(?:" + "|".join(KINDS) + r")\]", "", once) == rest


@pytest.mark.parametrize(
    "text",
    [
        "+1" * 20_000,
        "0 " * 20_000,
        "a.b@" * 20_000,
        "1:" * 20_000,
        "AA11" * 20_000,
        "password_" * 5_000,
        "4 1" * 20_000,
        "-----BEGIN PRIVATE KEY-----" * 500,
    ],
)
def test_a_text_made_to_be_slow_is_not(text: str) -> None:
    found_pii(text, KINDS)  # the time limit of a test is far above what this takes, and far below what doubling would


def test_rows_are_dropped_marked_or_redacted(session: Session) -> None:
    talk = [{"role": "user", "content": "I am ann@example.org"}, {"role": "assistant", "content": "Hello Ann"}]
    rows = Import(
        data=[
            {"input": "call 415-555-2671 or ann@example.org", "messages": talk},
            {"input": "a chai", "messages": [{"role": "user", "content": "hi"}]},
        ],
        require=(),
    )
    dropped = session.run(Pii(rows=rows, columns="input", action="drop"))
    assert [row["input"] for row in dropped] == ["a chai"]
    (one,) = dropped.dropped()
    assert one["reason"] == "holds a phone number and an e-mail address"
    assert one["detail"] == "phone at 5, e-mail at 21"
    marked = session.run(Pii(rows=rows, columns=("input", "messages"), action="mark"))
    assert [row["pii"] for row in marked] == ["phone email", ""]
    assert marked.record["facts"] == {"rows_with": {"email": 1, "phone": 1}}
    assert dropped.record["facts"] == {"dropped_by": {one["reason"]: 1}}
    clean = session.run(Pii(rows=rows, columns=("input", "messages")))
    first, second = clean
    assert clean.record["facts"]["redacted"] == {"email": 2, "phone": 1}
    assert first["input"] == "call [phone] or [email]"
    assert first["messages"][0] == {"role": "user", "content": "I am [email]"}
    assert second == list(session.run(rows))[1]
    kept = session.run(Keep(rows=rows, where=NoPii(kinds=("email",)), column="input"))
    assert [row["reason"] for row in kept.dropped()] == ["holds an e-mail address (e-mail at 21)"]


def test_mistakes_are_told(session: Session) -> None:
    rows = Import(data=[{"input": "a", "pii": "b"}], require=())
    with pytest.raises(RecipeError, match="a column `pii` already"):
        session.run(Pii(rows=rows, columns="input", action="mark"))
    with pytest.raises(RecipeError, match="there is no column `text`"):
        session.run(Pii(rows=rows, columns="text"))
    with pytest.raises(RecipeError, match="kinds"):
        Pii(rows=rows, columns="input", kinds=("name",))
