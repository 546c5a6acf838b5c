"""The relevance under the composite "gradient" is the vector-Jacobian product, for every operator of the table."""

from functools import cache

import pytest
from gradient_cases_functions import CASES as FUNCTIONS
from gradient_cases_layers import CASES as LAYERS
from gradient_cases_movement import CASES as MOVEMENT
from gradients import Case, Expected, check, expected
from onnx_lrp.operators import OPERATORS, Role

CASES = {f"{case.op}-{case.name}": case for case in [*LAYERS, *MOVEMENT, *FUNCTIONS]}


@cache
def wanted(name: str) -> Expected:
    return expected(CASES[name])


def prepare(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if not case.canonical:
        monkeypatch.setattr("onnx_lrp.explainer.canonicalise", lambda graph: graph)


def test_no_two_cases_share_a_name() -> None:
    assert len(CASES) == len(LAYERS) + len(MOVEMENT) + len(FUNCTIONS)


def test_every_operator_has_a_case() -> None:
    covered = {case.key for case in CASES.values()}
    missing = [key for key, operator in OPERATORS.items() if operator.role is not Role.STOP and key not in covered]
    assert not missing
    assert covered <= set(OPERATORS)


@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(CASES[name], monkeypatch)
    check(CASES[name], wanted(name))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.free])
def test_gradient_with_symbolic_lengths(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    prepare(case, monkeypatch)
    check(case, wanted(name), case.free or ())
