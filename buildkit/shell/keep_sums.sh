# shellcheck shell=sh
# Part of an exported script that makes a root; it runs in the root's folder.

# of the sums of each package's files, those of files that are left
for list in var/lib/dpkg/status.d/*.md5sums; do
    if [ -e "${list%.md5sums}" ]; then
        while read -r sum path; do [ ! -f "$path" ] || printf '%s  %s\n' "$sum" "$path"; done <"$list" >kept
        cat kept >"$list"
        rm kept
    else
        rm -f "$list"
    fi
done
