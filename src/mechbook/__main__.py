"""``python -m mechbook``."""

import sys

from mechbook.cli import main

sys.exit(main())
