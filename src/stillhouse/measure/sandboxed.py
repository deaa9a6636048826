"""What checks in processes of their own are kept from on this machine."""

from collections.abc import Mapping


def contained() -> Mapping[str, bool]:
    """Whether they are kept from `network`, `processes` and `files`; starts a worker to find out."""
    from ._sandbox import contained as found

    return found()
