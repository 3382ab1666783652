"""The processes of a server: first start, web, worker, broker, and who watches them. Refuses to answer requests."""
