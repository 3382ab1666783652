"""From a frame to a sighting: motion, tracks, crops, names. Refuses to know of updates and of the broker."""
