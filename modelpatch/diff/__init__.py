"""What makes a patch: matching, pairing, plans, encoding. numpy allowed; a device never loads it."""
