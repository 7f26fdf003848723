"""Tests: a name is a claim, truth comes from elsewhere than the code under test."""
