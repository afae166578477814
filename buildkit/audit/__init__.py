"""Check what an image is made of, without running it. Pure: given a config and the streams of layers."""
