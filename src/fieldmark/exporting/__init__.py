"""A bundle in other forms: files that answer without Fieldmark, or without torch."""
