"""The words in which models are asked, each a plain template filled with `str.format`.

The marks that programs look for: `Write N new inputs`, and the input of the task between `<input>` and `</input>`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

ANSWER = """\
Do this task for the input below.

The task: {instruction}
{policy}{examples}
First think step by step, briefly, in `thinking`. Then give in `output` what the task asks for and nothing else.

<input>
{input}
</input>"""

POLICY = """\
Below are examples of a task. Describe the task so that others can write more inputs of the same kind and answer them
in the same way.

The task: {instruction}
{examples}
Say what holds for the examples in general; do not retell them. Give:
- task_description: what is done, in one or two sentences;
- input_format: what the inputs look like, how they vary, in which tone and wording;
- output_format: the exact form of the outputs;
- reasoning_style: how one gets from an input to its output;
- key_constraints: rules that every output keeps, one sentence each;
- difficulty: easy, medium or hard;
- reasoning_patterns: kinds of inputs or of steps that are told apart, one short phrase each;
- examples_summary: what the examples cover and what they leave out, in one or two sentences."""

AMPLIFY = """\
You write inputs for a task. A model will be trained on them, so they must be as varied as those that people send.

The task: {instruction}
{policy}
Inputs that exist already:
{shown}

Write {count} new inputs. Each must be an input only, without its answer, of the kind described, and {shortest} to
{longest} characters long. They must differ from those above and from each other in content, wording, order, length and
tone: no paraphrases, no patterns that repeat.{focus}"""

FOCUS = " Let some of them need this: {pattern}."

KINDS = """\

Kinds of inputs:
{kinds}
"""

LEVELS_TEXT = """\
Difficulty, for one who does the task well: easy is one plain step; medium takes a few steps, or holds something that is
easily overlooked; hard takes many steps, is a rare case, or misleads."""

LABELS = """\
Below are inputs for a task. Say of each what it is, judging it by itself.

The task: {instruction}
{policy}{kinds}
{levels}

Inputs:
{shown}

Give in `labels`, for each of the {count} inputs in this order, its kind (0: none of those above) and its difficulty."""

POLICY_TEXT = """
{task_description}
Inputs: {input_format}
Outputs: {output_format}
Reasoning: {reasoning_style}
Rules:
{key_constraints}
"""


def examples_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows with `input`, `output` and perhaps `thinking` as examples; nothing for none."""
    shown = []
    for row in rows:
        lines = [f"Input: {row['input']}"]
        if row.get("thinking"):
            lines.append(f"Thinking: {row['thinking']}")
        shown.append("\n".join([*lines, f"Output: {row['output']}"]))
    return "" if not shown else "\nExamples:\n\n" + "\n\n".join(shown) + "\n"


def policy_text(policy: Mapping[str, Any] | None) -> str:
    """A task policy in words, for prompts; nothing for none."""
    if policy is None:
        return ""
    rules = "\n".join(f"- {rule}" for rule in policy["key_constraints"])
    return POLICY_TEXT.format(**{**policy, "key_constraints": rules})


def listed(texts: Iterable[str]) -> str:
    """Texts one below the other, each as a JSON string, so that their own line ends do not confuse."""
    return "\n".join(f"- {json.dumps(text, ensure_ascii=False)}" for text in texts)
