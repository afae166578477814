"""How an image is started: the recommended flags as values, and as a command, a compose file and a unit. Pure."""
