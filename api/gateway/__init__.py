"""The speech socket of the API: clients in front, workers behind."""
