"""A site that `tests/test_situations.py` sets up in many ways, each in a process of its own."""
