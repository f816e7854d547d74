"""Encodings of text: their names, their detection, and their translation to UTF-8."""
