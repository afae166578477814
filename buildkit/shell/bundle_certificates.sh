# shellcheck shell=sh
# Part of an exported script that makes a root; it runs in the root's folder.

# certificates, where no package's script bundled them
bundle=etc/ssl/certs/ca-certificates.crt
if [ -d usr/share/ca-certificates ] && [ ! -e "$bundle" ]; then
    mkdir -p etc/ssl/certs
    find usr/share/ca-certificates -name '*.crt' | LC_ALL=C sort | xargs awk 1 >"$bundle"
fi
