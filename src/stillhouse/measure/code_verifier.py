"""Programs that pass their tests."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import model_validator

from ..core.errors import RecipeError
from ..core.part import Part
from .limits import Limits
from .score import expected_value
from .verdict import Verdict

if TYPE_CHECKING:
    from ._sandbox import Found

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)


class CodeVerifier(Part, tag="measure.code_verifier/1"):
    """Runs the Python in a reply, each program in a process of its own, and accepts what does as it should.

    The code is that of the last fenced block in Python, or in no language, or the whole reply. `tests` names a column
    with Python that runs after it in the same names (`assert add(1, 2) == 3`). `stdout` names one with the text that it
    must print, ends of lines and of the text apart, and `stdin` one with what it reads. `cases` names a column with a
    list of `{"input": …, "output": …}`: what it reads and must print, each in a fresh process. Without any of them a
    program must only run to its end.

    What it may take is in `limits`. On Linux it is kept from the network, from other processes and, beside Python's own
    libraries, from all files but those of an empty folder; where the kernel cannot do that it is not run, unless you
    say that the machine itself is a sandbox: `uncontained=True`, which counts in no key.
    """

    tests: str | None = None
    stdout: str | None = None
    stdin: str | None = None
    cases: str | None = None
    limits: Limits = Limits()
    uncontained: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "CodeVerifier":
        if self.cases is not None and (self.stdout is not None or self.stdin is not None):
            raise ValueError("`cases` say what is read and printed: leave `stdin` and `stdout` out")
        return self

    def identity(self) -> Mapping[str, Any]:
        """All but where it may run."""
        return {name: value for name, value in self.values().items() if name != "uncontained"}

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        return self.many([(item, reply)])[0]

    def many(self, pairs: Sequence[tuple[Mapping[str, Any], str]]) -> list[Verdict]:
        """The verdicts of many, several at once."""
        from ._sandbox import Program, contained, run_programs

        if not self.uncontained and not all(contained().values()):
            missing = ", ".join(name for name, held in contained().items() if not held)
            raise RecipeError(
                f"programs of a model cannot be kept from the {missing} of this machine",
                "Run it on Linux 5.13 or newer, or in a container that may be harmed: "
                "`CodeVerifier(uncontained=True)`.",
            )
        plans = [self._plan(item) for item, _ in pairs]
        runs = [
            Program(code_of(reply), case.tests, case.stdin)
            for (_, reply), plan in zip(pairs, plans, strict=True)
            if not isinstance(plan, Verdict)
            for case in plan
        ]
        found = iter(run_programs(runs, self.limits))
        return [plan if isinstance(plan, Verdict) else _verdict(plan, [next(found) for _ in plan]) for plan in plans]

    def _plan(self, item: Mapping[str, Any]) -> "list[_Case] | Verdict":
        """What is run for a row; a verdict against it where there is nothing to hold a program against."""
        values = {name: expected_value(item, column) for name, column in self._columns().items()}
        for name in ("tests", "stdout", "cases"):
            if name in values and (values[name] is None or (name != "stdout" and not values[name])):
                return Verdict(False, f"the row has nothing in `{getattr(self, name)}`")
        tests, stdin = values.get("tests"), values.get("stdin")
        if "cases" not in values:
            return [_Case(tests, str(stdin or ""), None if "stdout" not in values else str(values["stdout"]))]
        found: list[_Case] = []
        for number, case in enumerate(values["cases"], 1):
            if not isinstance(case, Mapping) or "output" not in case:
                raise RecipeError(
                    f"case {number} in `{self.cases}` is {case!r:.80}", 'Write cases as {"input": "…", "output": "…"}.'
                )
            found.append(_Case(tests, str(case.get("input") or ""), str(case["output"] or ""), number))
        return found

    def _columns(self) -> dict[str, str]:
        return {name: column for name in ("tests", "stdout", "stdin", "cases") if (column := getattr(self, name))}


def _verdict(plan: Sequence["_Case"], found: Sequence["Found"]) -> Verdict:
    for case, one in zip(plan, found, strict=True):
        where = "" if case.number is None else f"case {case.number}: "
        if one.reason is not None:
            return Verdict(False, where + one.reason)
        if case.stdout is not None and printed(one.stdout) != printed(case.stdout):
            said, wanted = printed(one.stdout), printed(case.stdout)
            return Verdict(False, f"{where}it printed {said[:200]!r}, not {wanted[:200]!r}")
    return Verdict(True)


class _Case(NamedTuple):
    """One run: the tests, what is read, what must be printed (None: anything), and its number among those of a row."""

    tests: str | None
    stdin: str
    stdout: str | None
    number: int | None = None


def code_of(reply: str) -> str:
    """The Python in a reply: its last fenced block in Python, else its last in no language, else all of it."""
    blocks = [(language.lower(), code) for _, language, code in _FENCE.findall(reply)]
    for wanted in (("python", "py", "python3"), ("",)):
        found = [code for language, code in blocks if language in wanted]
        if found:
            return str(found[-1])
    return reply


def printed(text: str) -> str:
    """What was printed, without space at the ends of lines and empty lines at the end."""
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())
