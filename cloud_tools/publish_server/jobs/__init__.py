"""What is done in the background: rows that workers claim, and what each kind does. Refuses to know of HTTP."""
