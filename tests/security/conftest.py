"""What the tests of the local platform use, for those that look at it from outside."""

from tests.local.conftest import function, wait_until

__all__ = ["function", "wait_until"]
