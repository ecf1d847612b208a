"""Estimators for research: dearer, or biased."""
