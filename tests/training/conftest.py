"""Fixtures of runs that train quickly."""

from quick_run import quick, small_trunk, whole

__all__ = ["quick", "small_trunk", "whole"]
