# shellcheck shell=sh
# A hook of mmdebstrap, whose $1 is the root: dpkg writes no records in the variant `extract`, so each package's own is
# copied to status.d, where scanners look for it, with the sums of its files.

mkdir -p "$1/var/lib/dpkg/status.d"
for deb in "$1"/var/cache/apt/archives/*.deb; do
    name=$(dpkg-deb --field "$deb" Package)
    dpkg-deb --field "$deb" > "$1/var/lib/dpkg/status.d/$name" || exit 1
    dpkg-deb --info "$deb" md5sums > "$1/var/lib/dpkg/status.d/$name.md5sums" 2>/dev/null ||
        rm "$1/var/lib/dpkg/status.d/$name.md5sums"
done
