"""Image files: finding them, decoding them, resizing and normalising them."""
