"""Owns finding people in a whole frame: the detector of a bundle, in training and on the device alike.

Refuses to follow them from frame to frame and to name them.
"""
