"""`python -m llamarouter` is `lr`."""

import sys

from llamarouter.cli.main import main

sys.exit(main())
