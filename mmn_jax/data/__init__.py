"""From raw data to a `FeatureSet`, and from there to a `LongTail`."""
