"""Tests of combining files."""
