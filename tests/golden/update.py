"""Write `keys.json` anew, or print it: `python -m tests.golden.update [--print]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stillhouse.core.keys import canonical, digest_of
from tests.golden.samples import SAMPLES, VALUES, key_of


def main() -> None:
    keys: dict[str, object] = {sample.tag: key_of(sample) for sample in SAMPLES}
    keys["values"] = {name: digest_of(canonical(value)) for name, value in VALUES.items()}
    text = json.dumps(keys, indent=1, sort_keys=True) + "\n"
    if "--print" in sys.argv:
        sys.stdout.write(text)
    else:
        Path(__file__).with_name("keys.json").write_text(text)


if __name__ == "__main__":
    main()
