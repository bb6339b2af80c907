"""Seeds: a test that chooses at random begins at a fresh one, and says which."""

import os
import random

import pytest


@pytest.fixture
def seed() -> int:
    """A fresh seed, or HEADRACE_TEST_SEED; printed, so that it stands beside a failure."""
    found = int(os.environ.get("HEADRACE_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"HEADRACE_TEST_SEED={found}")
    return found
