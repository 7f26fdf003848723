"""Tests of the reduction and its parts."""
