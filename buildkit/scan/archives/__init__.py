"""Files that hold files: zip, tar and compressed streams, with their headers held against each other."""
