# shellcheck shell=sh
# Part of an exported script that makes a root; it runs in the root's folder.

# nothing of the build, its hour or its machine
for folder in dev proc sys; do [ ! -d "$folder" ] || find "$folder" -mindepth 1 -delete; done
for folder in run tmp var/tmp var/log var/backups var/cache/apt var/cache/ldconfig var/lib/apt/lists; do
    [ ! -d "$folder" ] || find "$folder" ! -type d -delete
done
rm -rf etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- etc/.pwd.lock \
    var/cache/apt/archives/partial var/cache/debconf/*-old var/lib/apt/extended_states var/lib/apt/lists/partial \
    var/lib/dbus/machine-id var/lib/dpkg/*-old var/lib/dpkg/lock* var/lib/dpkg/triggers/Lock
find . -path './usr/lib/python3.*' -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
for file in etc/hostname etc/hosts etc/resolv.conf; do rm -f "$file" && install -m 0644 /dev/null "$file"; done
[ ! -e etc/machine-id ] || install -m 0644 /dev/null etc/machine-id
