"""Building blocks for every other package: atomic files, element types, documents, words."""
