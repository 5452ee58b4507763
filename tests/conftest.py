"""Set up of the whole suite: readable assertions in the shared suites, and reproducible property tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("contracts", "toys")

# A contract suite runs one property test from several classes, and its fixtures hold no state.
settings.register_profile(
    "evonas",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("evonas")
