# shellcheck shell=sh
# A hook of mmdebstrap, whose $1 is the root: dpkg writes no records in the variant `extract`, so each package's own is
# copied to status.d, where scanners look for it.

mkdir -p "$1/var/lib/dpkg/status.d"
for deb in "$1"/var/cache/apt/archives/*.deb; do
    dpkg-deb --field "$deb" > "$1/var/lib/dpkg/status.d/$(dpkg-deb --field "$deb" Package)" || exit 1
done
