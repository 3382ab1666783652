"""What programs use the server by: JSON under /api/, with tokens. Refuses to do work: it asks for jobs."""
