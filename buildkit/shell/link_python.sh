# shellcheck shell=sh
# Part of an exported script that makes a root; it runs in the root's folder.

# python3, which else comes with a package that needs dpkg
newest=$(find usr/bin -name 'python3.[0-9]*' ! -name '*-*' -printf '%f\n' | sort -V | tail -n 1)
if [ -n "$newest" ] && [ ! -e usr/bin/python3 ]; then
    ln -s "$newest" usr/bin/python3
fi
