"""A program that makes a map step and a grow step in the store it is given: the victim of the kill tests."""

from __future__ import annotations

import sys

from stillhouse.core.options import Options
from stillhouse.core.session import Session
from tests.core.steps import Growth, Numbers, Slow, Upper


def main(folder: str, log: str) -> None:
    with Session(folder, options=Options(chunk=16), track=False, progress=False) as session:
        # A chunk of 16 takes longer than `QUICK`, so chunks do not grow and a kill repeats no more than one of them.
        slow = Slow(rows=Upper(rows=Numbers(count=120)), seconds=0.02, log=log)
        session.run(slow, name="slow")
        session.run(Growth(rows=slow, goal=60), name="grown")


if __name__ == "__main__":
    main(*sys.argv[1:])
