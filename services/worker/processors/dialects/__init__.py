"""The e-invoice dialects: which root element is whose, and who reads it."""
