"""Trunks: the convolutional networks that annotations come from."""
