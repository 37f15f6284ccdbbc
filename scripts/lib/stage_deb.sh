#!/bin/bash
# stage_deb.sh FOLDER: what the Debian package consists of, below FOLDER. Called by debian/rules, in
# the copy of the checkout that scripts/build-deb makes.

set -uo pipefail
checkout=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
# shellcheck source=scripts/lib/setup.sh
. "$checkout/scripts/lib/setup.sh"
# shellcheck source=scripts/lib/install.sh
. "$checkout/scripts/lib/install.sh"

root=$1
mkdir -p "$root"
# shellcheck disable=SC2034 # install.sh has the meaning of these
home=/opt/s3posixfs prefix=/usr zsh_folder=vendor-completions units=/usr/lib/systemd/system
# debhelper of Debian 12 looks for units in one place, and those after it in the other.
# shellcheck disable=SC2034
if [ "$(sed -n 's/^VERSION_ID="\(.*\)"$/\1/p' /etc/os-release)" = 12 ]; then
    units=/lib/systemd/system
fi
python=/usr/bin/python3
name=$(environment_name "$python")
make_environment "$python" "$home/versions/$name"
find "$root$home" -path '*/pyfuse3*' -name '*.so' -exec strip --strip-unneeded {} +
place_files "$home/versions/$name" "$home/current/bin"
mkdir "$root$home/package"
mv "$root$home/versions/$name" "$root$home/package/$name"
rmdir "$root$home/versions"
printf '%s\n' "$name" >"$root$home/package/name"
while read -r mode file; do
    put "$mode" "/etc/s3posixfs/$file" <"$checkout/packaging/etc/$file"
done < <(sample_configuration)
for file in "$checkout"/README.md "$checkout"/docs/*.md; do
    put 644 "/usr/share/doc/s3posixfs/${file##*/}" <"$file"
done
