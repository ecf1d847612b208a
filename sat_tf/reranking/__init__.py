"""Second opinions on the beams of a search."""
