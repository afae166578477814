# shellcheck shell=sh
# Part of an exported script that makes a root; it runs in the root's folder.

# accounts, where no package's script made any
[ -e etc/passwd ] || printf '%s\n' root:x:0:0:root:/root:/usr/sbin/nologin \
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin >etc/passwd
[ -e etc/group ] || printf '%s\n' root:x:0: nogroup:x:65534: >etc/group
[ -e etc/shadow ] || (umask 077 && printf '%s\n' 'root:*::0:99999:7:::' 'nobody:*::0:99999:7:::' >etc/shadow)
sed -i 's/^\([^:]*:[^:]*\):[^:]*/\1:/' etc/shadow  # no day of a last change
