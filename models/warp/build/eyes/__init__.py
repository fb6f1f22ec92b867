"""Eyes, lids and glasses of the photo, once for each portrait."""
