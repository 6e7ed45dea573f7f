"""Run the command line: `python -m minise VERB` is the same as `minise VERB`."""

import sys

from minise.cli import main

if __name__ == "__main__":
    sys.exit(main())
