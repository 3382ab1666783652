"""Where frames come from: sources behind one way of reading. Refuses to look at what is on a picture."""
