"""Makes the examples importable: they are run from a checkout, not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
