"""Files that contain files: zip, tar and compressed streams, with their headers checked against each other."""
