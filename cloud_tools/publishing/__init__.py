"""From a bundle to a signed release on a site: keys, patches, gate, roles, server. Refuses to train."""
