echo "$GREETING from $PWD"
