"""Every strategy that learns beats random search on smooth functions."""

import pytest
from strategy_table import DUELISTS, check_beats_random_search

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("function", ["sphere", "rosenbrock"])
@DUELISTS
def test_beats_random_search_with_p_below_one_in_ten_thousand(name, function):
    check_beats_random_search(name, function)
