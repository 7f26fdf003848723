"""Measurements: cases that run once as tests, and scripts that compare programs."""
