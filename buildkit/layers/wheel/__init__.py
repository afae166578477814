"""Turn wheels into layer members, and compile their bytecode."""
