"""`python -m bettong` is the command `bettong`."""

import sys

from bettong._cli import main

if __name__ == "__main__":
    sys.exit(main())
