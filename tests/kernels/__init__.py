"""Tests of the arithmetic on plain arrays."""
