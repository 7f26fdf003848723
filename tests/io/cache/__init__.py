"""Tests of the cache of a night."""
