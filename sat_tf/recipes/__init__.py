"""Everything a training run needs to know besides its data."""
