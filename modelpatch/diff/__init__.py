"""What makes a patch: matching, pairing, tilings, lanes, encoding. numpy allowed; a device never loads it."""
