"""Makes `python -m minise VERB` the same as `minise VERB`."""

import sys

from minise.cli import main

sys.exit(main())
