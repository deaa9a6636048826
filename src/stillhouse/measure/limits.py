"""What a check in a process of its own may take."""

from pydantic import Field

from ..core.part import Part


class Limits(Part, tag="measure.limits/1"):
    """What one check may take before it is ended: `seconds` by the clock, `cpu_seconds` of work, `memory_mib` beyond
    what its process starts with, `file_mib` for each file that it writes (its output among them).

    Without `network` it can open no socket, without `processes` start no program and fork no process: on Linux, where
    the kernel allows it (`contained` tells).
    """

    seconds: float = Field(10.0, gt=0)
    cpu_seconds: int = Field(5, ge=1)
    memory_mib: int = Field(512, ge=16)
    file_mib: int = Field(16, ge=1)
    network: bool = False
    processes: bool = False
