"""The suites are shipped with the package: let pytest explain their assertions as if they were tests here."""

import pytest

pytest.register_assert_rewrite("headrace.testing")
