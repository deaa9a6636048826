"""`python -m stillhouse` is the command `stillhouse`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
