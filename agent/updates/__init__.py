"""From a signed release to a committed slot. Refuses to know of cameras; only `slots` renames or activates."""
