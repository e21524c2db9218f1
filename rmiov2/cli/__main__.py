"""`python -m rmiov2.cli`, where the command is not on the path."""

import sys

from rmiov2.cli import main

sys.exit(main())
