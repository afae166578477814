"""Files that hold files: zip, tar, 7z and compressed streams, with their headers held against each other."""
