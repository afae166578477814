"""What an image is made of, as documents that others read; pure."""
