"""Import this first: torchvision, and Lightning which imports it, then load beside a CPU-only torch too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from torchvision_operators import declare_missing

operators = declare_missing()
