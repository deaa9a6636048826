"""Verifiers made of others, and the ways between verifiers and metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from ..core.part import Part
from .score import Metric, Score
from .verdict import Verdict
from .verify import Verifying, verdicts

Pairs = Sequence[tuple[Mapping[str, Any], str]]


class AllOf(Part, tag="measure.all_of/1"):
    """Accepts what every verifier accepts; the first that does not gives the reason, and later ones are not asked."""

    verifiers: tuple[Verifying, ...] = Field(min_length=1)

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        return self.many([(item, reply)])[0]

    def many(self, pairs: Pairs) -> list[Verdict]:
        found = [Verdict(True)] * len(pairs)
        places = list(range(len(pairs)))
        for verifier in self.verifiers:
            for place, verdict in zip(places, verdicts(verifier, [pairs[place] for place in places]), strict=True):
                found[place] = verdict
            places = [place for place in places if found[place].accepted]
        return found


class AnyOf(Part, tag="measure.any_of/1"):
    """Accepts what one of the verifiers accepts; else all their reasons stand in its own."""

    verifiers: tuple[Verifying, ...] = Field(min_length=1)

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        return self.many([(item, reply)])[0]

    def many(self, pairs: Pairs) -> list[Verdict]:
        reasons: list[list[str]] = [[] for _ in pairs]
        places = list(range(len(pairs)))
        for verifier in self.verifiers:
            found = verdicts(verifier, [pairs[place] for place in places])
            rejected = [(place, verdict) for place, verdict in zip(places, found, strict=True) if not verdict.accepted]
            for place, verdict in rejected:
                reasons[place].append(verdict.reason or "no")
            places = [place for place, _ in rejected]
        return [
            Verdict(False, "; ".join(told)) if len(told) == len(self.verifiers) else Verdict(True) for told in reasons
        ]


class MetricVerifier(Part, tag="measure.metric_verifier/1"):
    """Accepts replies that a metric scores with `least` or more; one that it cannot score is rejected."""

    metric: Part
    least: float = Field(1.0, gt=0, le=1)

    @field_validator("metric")
    @classmethod
    def _scores(cls, metric: Part) -> Part:
        if not isinstance(metric, Metric):
            raise ValueError(f"`{type(metric).__name__}` is no metric: it has no `name`")
        return metric

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        score: Score = self.metric(item, reply)  # type: ignore[operator]
        if score.value is None:
            return Verdict(False, score.detail or "it cannot be scored")
        if score.value >= self.least:
            return Verdict(True)
        told = "" if score.detail is None else f": {score.detail}"
        return Verdict(False, f"{self.metric.name} is {score.value:.2f}, less than {self.least:g}{told}")  # type: ignore[attr-defined]


class Accepted(Part, tag="measure.accepted/1"):
    """A metric: 1 for a reply that the verifier accepts, else 0 with its reason."""

    verifier: Verifying
    label: str = "accepted"

    @property
    def name(self) -> str:
        return self.label

    def __call__(self, item: Mapping[str, Any], reply: str) -> Score:
        (verdict,) = verdicts(self.verifier, [(item, reply)])
        return Score(float(verdict.accepted), verdict.reason)
