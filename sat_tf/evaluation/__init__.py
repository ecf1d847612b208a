"""Captions and looks, scored."""
