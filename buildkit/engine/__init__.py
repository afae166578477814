"""What acts: fetch, realise, assemble, deliver, under one scheduler."""
