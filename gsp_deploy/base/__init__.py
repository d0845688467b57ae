"""What everything else stands on: files that appear whole, element types, documents, words."""
