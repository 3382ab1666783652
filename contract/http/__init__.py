"""Owns how the programs speak HTTP: fetching with limits, byte ranges, compression. Refuses to know what of."""
