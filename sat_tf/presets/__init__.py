"""Captioners as folders, and those that come with the package."""
