"""Every strategy that fits a model beats random search, on mixed spaces too."""

import pytest
from strategy_table import check_beats_random_search, duelists

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("function", ["sphere", "rosenbrock", "mixed"])
@duelists(costly=True)
def test_beats_random_search_with_p_below_one_in_ten_thousand(name, function):
    check_beats_random_search(name, function)
