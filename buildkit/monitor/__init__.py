"""What containers use, from texts of the kernel's control groups: text to values. Pure."""
