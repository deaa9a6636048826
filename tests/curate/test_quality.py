from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Import, Keep, RecipeError, Session
from stillhouse.core.part import Part
from stillhouse.curate._text_measures import TextFacts
from stillhouse.curate.language import Language
from stillhouse.curate.quality import MeasureText, Quality
from stillhouse.curate.rule import Rule, named_rules

PROSE = (
    "The shop on the corner opens at seven. People who work nearby come in for tea, and they stay for the talk.\n\n"
    "It has been there for forty years, and the owner knows everyone by name! Would you have thought that of a\n"
    "place with four tables? Those who come with children are given the table at the window, where they look at the\n"
    "street and draw.\n\nNobody is in a hurry here, which is why we like to be here.\n"
)
# (measure, text, value worked out by hand, more fields)
WORKED: list[tuple[str, str, float, dict[str, Any]]] = [
    ("characters", "héllo", 5, {}),
    ("words", " two  lattes\nplease ", 3, {}),
    ("lines", "a\n\n b \n \n", 2, {}),
    ("sentences", "One. Two! Three?", 3, {}),
    ("sentences", "One (really.) And a rest", 2, {}),
    ("sentences", "It costs 3.50 at a.b", 1, {}),
    ("sentences", "一。二！", 2, {}),
    ("sentences", "  ", 0, {}),
    ("mean_word_length", "ab abcd - ...", 3, {}),
    ("longest_word", "a abcde ab", 5, {}),
    ("hashes_per_word", "# a ## b", 3 / 4, {}),
    ("ellipses_per_word", "a... b… c d", 2 / 4, {}),
    ("line_ends_per_word", "a\nb\nc d", 2 / 4, {}),
    ("alphabetic_words", "a 1 b2 - é", 3 / 5, {}),
    ("stop_words", "The cat and THE dog, and that.", 3, {}),
    ("stop_words", "der Hund und die Katze", 2, {"of": ("der", "und", "das")}),
    ("phrases", "Lorem Ipsum dolor, lorem ipsum", 2, {"of": "lorem ipsum"}),
    ("bullet_lines", "- a\n• b\nc\n", 2 / 3, {}),
    ("ellipsis_lines", "a...\nb…\nc.\nd", 2 / 4, {}),
    ("terminal_lines", "a.\nb!\nc\n\nd\n", 2 / 4, {}),
    ("short_lines", "abc\nabcd\nab", 2 / 3, {"size": 3}),
    ("repeated_lines", "a\nb\na\na", 2 / 4, {}),
    ("repeated_line_characters", "abc\nde\nabc", 3 / 10, {}),
    ("repeated_paragraphs", "a\n\nb\n\na", 1 / 3, {}),
    ("repeated_paragraph_characters", "ab\n\nc\n\nab", 2 / 9, {}),
    ("top_ngram_characters", "a b a b a b", 9 / 11, {"size": 2}),
    ("top_ngram_characters", "a b c", 0, {"size": 2}),
    ("repeated_ngram_characters", "a b c d e a b c d e f", 5 / 21, {"size": 5}),
    ("repeated_ngram_characters", "aa bb aa bb aa bb", 8 / 17, {"size": 2}),
    ("repeated_ngram_characters", "a b c", 0, {"size": 5}),
]


@pytest.mark.parametrize(("measure", "text", "value", "more"), WORKED)
def test_measures_are_what_one_counts_by_hand(measure: Any, text: str, value: float, more: dict[str, Any]) -> None:
    assert Rule(measure=measure, at_least=0, **more).value(text) == pytest.approx(value)


@given(st.text("ab #.…\n-1{", max_size=60))
def test_every_measure_of_any_text_is_a_number_and_shares_stay_below_one(text: str) -> None:
    facts = TextFacts(text)
    for name in ("gopher", "gopher_repetition", "c4", "fineweb"):
        for rule in named_rules(name):
            value = facts.measured(rule)
            assert value >= 0
            if "characters" in rule.measure or "lines" in rule.measure or rule.measure == "alphabetic_words":
                assert value <= 1


@given(st.lists(st.sampled_from("ab"), max_size=14), st.integers(1, 4))
def test_repeated_ngrams_agree_with_a_plain_loop(words: list[str], size: int) -> None:
    text = " ".join(words)
    seen: set[str] = set()
    place = characters = 0
    while place + size <= len(words):
        run = "".join(words[place : place + size])
        characters += len(run) if run in seen else 0
        place += size if run in seen else 1
        seen.add(run)
    rule = Rule(measure="repeated_ngram_characters", at_most=1, size=size)
    assert rule.value(text) == pytest.approx(characters / len(text) if text else 0)


def test_prose_passes_all_sets_and_each_fault_is_told_with_its_value(session: Session) -> None:
    texts = {
        "prose": PROSE,
        "short": "Only these few words of it.",
        "list": "\n".join(f"- item number {n} of the list that is to be read with care" for n in range(20)),
        "repeated": "The same line is said again and again to have the page filled with it.\n" * 12,
        "latin": PROSE + "Lorem ipsum dolor sit amet.",
        "code": PROSE + "function f() { return 1; }",
        "numbers": " ".join(str(n) for n in range(1000, 1100)) + " the of and.",
    }
    rows = Import(data=[{"name": name, "text": text} for name, text in texts.items()], require=())
    every = ("gopher", "gopher_repetition", "c4", "fineweb")
    made = session.run(Quality(rows=rows, columns="text", rules=every))
    assert [row["name"] for row in made] == ["prose"]
    assert sum(made.record["facts"]["dropped_by"].values()) == 6
    assert made.record["facts"]["dropped_by"]["bullet lines above 0.9"] == 1
    told = {text["row"].split('"name":"')[1].split('"')[0]: text for text in made.dropped()}
    assert (told["short"]["reason"], told["short"]["detail"].split("; ")[0]) == ("words below 50", "6")
    assert told["list"]["reason"] == "bullet lines above 0.9"
    assert "top 3-gram characters above 0.18 (0.2437)" in told["list"]["detail"]
    assert told["repeated"]["reason"] == "repeated lines above 0.3"
    assert told["repeated"]["detail"].startswith("0.9167; ")
    assert told["latin"]["reason"] == "occurrences of `lorem ipsum` above 0"
    assert told["code"]["reason"] == "occurrences of `{` above 0"
    assert told["numbers"]["reason"] == "alphabetic words below 0.8"


def test_the_name_of_a_set_is_the_same_as_its_rules(session: Session) -> None:
    rows = Import(data=[{"text": PROSE}], require=())
    spelt = Quality(rows=rows, columns=("text",), rules=named_rules("c4"))
    assert spelt.recipe_key == Quality(rows=rows, columns="text", rules="c4").recipe_key
    lower = Quality(rows=rows, columns="text", rules=(Rule(measure="words", at_least=500),))
    assert len(session.run(lower)) == 0
    assert session.run(lower).columns == ["text"]


def test_a_rule_serves_keep_and_conversations_are_read_as_text(session: Session) -> None:
    talk = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "hello to you"}]
    rows = Import(data=[{"messages": talk, "output": "a b"}, {"messages": talk[:1], "output": "a b c"}], require=())
    made = session.run(Keep(rows=rows, where=Rule(measure="words", at_least=3)))
    assert [row["reason"] for row in made.dropped()] == ["words below 3 (2)"]
    long = session.run(Quality(rows=rows, columns="messages", rules=(Rule(measure="words", at_least=5),)))
    assert [row["output"] for row in long] == ["a b"]


def test_measures_can_be_looked_at_first(session: Session) -> None:
    rows = Import(data=[{"text": "one two"}, {"text": None}], require=())
    made = session.run(MeasureText(rows=rows, column="text", measures=("words", "mean_word_length")))
    assert [(row["words"], row["mean_word_length"]) for row in made] == [(2, 3), (0, 0)]
    with pytest.raises(RecipeError, match="a column `words` already"):
        session.run(
            MeasureText(
                rows=MeasureText(rows=rows, column="text", measures=("words",)), column="text", measures=("words",)
            )
        )


class Odd(Part, tag="tests.odd/1"):
    pass


def test_rules_that_make_no_sense_are_refused() -> None:
    rows = Import(data=[{"text": "a"}], require=())
    for fields, message in [
        ({"measure": "words"}, "has no bound"),
        ({"measure": "words", "at_least": 3, "at_most": 2}, "lets nothing pass"),
        ({"measure": "words", "at_least": 3, "size": 2}, "takes no `size`"),
        ({"measure": "words", "at_least": 3, "of": "a"}, "takes no `of`"),
        ({"measure": "phrases", "at_most": 0}, "`phrases` are missing"),
        ({"measure": "wrds", "at_most": 0}, "measure"),
    ]:
        with pytest.raises(RecipeError, match=message):
            Rule(**fields)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="there are gopher"):
        Quality(rows=rows, columns="text", rules=("gofer",))
    with pytest.raises(RecipeError, match="it has no `check`"):
        Quality(rows=rows, columns="text", rules=(Odd(),))


SENTENCES = {
    "en": "Could you bring me two oat lattes, please?",
    "de": "Könntest du mir bitte zwei Hafer-Latte bringen?",
    "fr": "Pourriez-vous m'apporter deux cafés au lait, s'il vous plaît ?",
    "es": "¿Podría traerme dos cafés con leche, por favor?",
    "it": "Potrebbe portarmi due caffè, per favore?",
    "pt": "Você poderia me trazer dois cafés, por favor?",
    "nl": "Kunt u mij alstublieft twee koffie brengen?",
    "sv": "Kan du ge mig två kaffe, tack?",
    "pl": "Czy mógłbyś przynieść mi dwie kawy?",
    "ru": "Не могли бы вы принести мне два кофе?",
    "zh": "请给我两杯咖啡好吗",
    "ja": "コーヒーを二つお願いします",
    "ko": "커피 두 잔 주세요",
    "ar": "هل يمكنك أن تحضر لي قهوتين من فضلك؟",
    "hi": "कृपया मुझे दो कॉफी ला दीजिए",
    "tr": "Bana iki kahve getirir misiniz lütfen?",
}


@pytest.mark.parametrize("code", list(SENTENCES))
def test_a_sentence_is_known_by_its_language(code: str) -> None:
    text = SENTENCES[code]
    assert Language(languages=code).check(text) is None
    others = tuple(other for other in SENTENCES if other != code)
    found = Language(languages=others).check(text)
    assert found is not None
    assert found.reason == f"written in `{code}`"


def test_languages_choose_rows_with_a_reason(session: Session) -> None:
    rows = Import(
        data=[{"text": SENTENCES["en"]}, {"text": SENTENCES["de"]}, {"text": " "}, {"text": "OK 12 xj"}], require=()
    )
    made = session.run(Quality(rows=rows, columns="text", rules=(Language(languages="en", confidence=0.7),)))
    assert [row["text"] for row in made] == [SENTENCES["en"]]
    dropped = list(made.dropped())
    assert dropped[0]["reason"] == "written in `de`"
    assert dropped[0]["detail"].startswith("confidence 0.9")
    assert dropped[1]["reason"] == "there is no text"
    assert len(session.run(Keep(rows=rows, where=Language(languages=("en", "de")), column="text"))) >= 2
    with pytest.raises(RecipeError, match="is no language code"):
        Language(languages="English")
