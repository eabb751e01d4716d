"""What every process of the tests does first, since a hundred of them start."""

import gc
import sys

# Beside so many libraries, each look for garbage takes long.
gc.set_threshold(70_000, 10, 10)
# A grammar of addresses, which takes three seconds to build; no format of notebooks asks for it.
sys.modules["rfc3987_syntax"] = None
