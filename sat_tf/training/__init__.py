"""Training runs that can be killed at any moment and resumed."""
