# shellcheck shell=sh
# A hook of mmdebstrap, whose $1 is the root: compiles the standard library. Start-up is several times slower without
# bytecode, and Debian's own is checked against the sources at every start (or missing: no package script runs in the
# variant `extract`).

for python in "$1"/usr/bin/python3.*; do
    name=${python##*/}
    case ${name#python3.} in *[!0-9]*) continue ;; esac
    env -i PYTHONHASHSEED=0 PATH=/usr/bin:/usr/sbin chroot "$1" "/usr/bin/$name" -s -S -m compileall \
        -q -f --invalidation-mode unchecked-hash "/usr/lib/$name" || exit 1
done
