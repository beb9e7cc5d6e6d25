"""The boundary: what arrives is read strictly, what leaves is written whole, what is shown is harmless."""
