"""What people use the server by: pages that the server renders. Refuses scripts; every page works without."""
