"""Each rewrite fires on what it is for, leaves alone what only looks like it, and keeps every output."""

import pytest
from canonical import check
from canonical_cases_constants import CASES as CONSTANTS
from canonical_cases_functions import CASES as FUNCTIONS
from canonical_cases_layers import CASES as LAYERS
from canonical_cases_scales import CASES as SCALES

CASES = {f"{case.name}": case for case in [*CONSTANTS, *LAYERS, *SCALES, *FUNCTIONS]}


@pytest.mark.parametrize("name", CASES)
def test_rewrites(name: str) -> None:
    check(CASES[name])
