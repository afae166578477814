"""What an image is made of, checked without running it. Pure, given a config and the streams of layers."""
