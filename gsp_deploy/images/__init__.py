"""Find, decode, resize and normalise image files."""
