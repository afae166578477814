"""Start images with recommended flags: as values, as a command, as a compose file and as a unit. Pure."""
