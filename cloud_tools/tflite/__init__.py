"""TensorFlow and TFLite files: import, export, running, reading. Refuses to know of people."""
