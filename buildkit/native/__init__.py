"""Native files (ELF): what they need of an image so that the dynamic linker can load them; told without running any."""
