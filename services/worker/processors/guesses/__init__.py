"""Guesses an invoice's facts from a page's text: conservative, null rather than wrong."""
