"""Assertions of the common tests explain themselves as those of a test file do."""

import pytest


pytest.register_assert_rewrite("tests.models.common", "tests.models.common_generation", "tests.models.common_seq2seq")
