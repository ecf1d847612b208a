"""Pictures: reading, checking and resizing image files."""
