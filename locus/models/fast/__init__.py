"""Fast parts of models that compute what the plain ones compute: attention over trees, norms with their own way back."""
