"""A hunt for faults: runs that are killed, storage that fails, files that lie, odd surroundings.

``python -m tests.hunt kills|faults|fuzz|surroundings --minutes M --seed S`` looks for minutes or
hours; `tests/test_hunt.py` does so for seconds. What is found is written as a case that can be
played again.
"""
