"""An honest race: this project against buildah and BuildKit on one machine, in one run, in alternation."""
