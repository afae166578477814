"""SBOMs, provenance and attestations of images, as documents of standard formats. Pure."""
