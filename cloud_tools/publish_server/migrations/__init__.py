"""The steps that the tables took. Refuses to be edited: a new step is a new file."""
