"""Drawing rows by their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ..core.context import Context
from ._apportion import drawn, equal_quotas, num_wanted, quotas, smallest_keys
from ._split import row_facts

if TYPE_CHECKING:
    from .sample import Sample


def write_sample(step: Sample, context: Context) -> None:
    """The work of `Sample`."""
    source = context.get(step.rows)
    facts = row_facts(source, context, step.seed, step.by)
    sizes = np.bincount(facts.strata)
    ties = smallest_keys(facts.keys, facts.strata, len(sizes))
    share = equal_quotas if step.shares == "equal" else quotas
    taken = drawn(facts.keys, facts.strata, share(sizes, num_wanted(step.size, len(source)), ties))
    with context.rows() as writer:
        writer.write_table(source.schema.empty_table())
        start = 0
        for batch in source.arrow_batches():
            mask = taken[start : start + batch.num_rows]
            if mask.any():
                writer.write_table(pa.Table.from_batches([batch]).filter(pa.array(mask)))
            start += batch.num_rows
            context.progress(start, len(source))
            context.check_stop()
