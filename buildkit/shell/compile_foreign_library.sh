# shellcheck shell=sh
# A hook of mmdebstrap, whose $1 is the root: compiles the standard library as compile_library does, in a root whose
# programs this machine cannot run. $python is a folder with the same Python for this machine, which works in the root
# while it compiles: the bytes and the paths in them are those that the root's own Python would write.

cp -R "${python:?}" "$1/buildkit-python" || exit 1
for loader in "$1"/buildkit-python/usr/lib/*-linux-gnu/ld-linux-*.so.*; do break; done
loader=${loader#"$1"}
for program in "$1"/usr/bin/python3.*; do
    name=${program##*/}
    case ${name#python3.} in *[!0-9]*) continue ;; esac
    env -i PYTHONHASHSEED=0 PYTHONHOME=/buildkit-python/usr PYTHONDONTWRITEBYTECODE=1 PATH=/usr/bin:/usr/sbin \
        chroot "$1" "$loader" --library-path "${loader%/*}" "/buildkit-python/usr/bin/$name" -s -S -m compileall \
        -q -f --invalidation-mode unchecked-hash "/usr/lib/$name" || exit 1
done
rm -rf "$1/buildkit-python"
