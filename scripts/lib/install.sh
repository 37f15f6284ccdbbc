# Shared by scripts/install and scripts/build-deb: the environment, and the files around it.
# Source it after scripts/lib/setup.sh, with these set (all but `root` as absolute paths of the
# host that the program will run on; `root` is put before them, empty for this host):
#   root      the folder of another host's root
#   home      folder of the environments            /opt/s3posixfs     /opt/s3posixfs
#   prefix    of commands, man pages, completion    /usr/local         /usr
#   units     folder of systemd's units
# shellcheck shell=bash
# shellcheck disable=SC2154

# Entry points of the environment, and the names under which mount(8) and umount(8) look for them.
HELPERS=(
    mount.s3posixfs:mount.s3posixfs mount.fuse.s3posixfs:mount.s3posixfs
    umount.s3posixfs:umount.s3posixfs umount.fuse.s3posixfs:umount.s3posixfs
)

version() { sed -n 's/^version = "\(.*\)"$/\1/p' "$checkout/pyproject.toml"; }

# The name of the environment that this checkout makes: the same for the same content.
environment_name() {
    local python=$1 sum
    sum=$(cd "$checkout" && {
        "$python" --version
        cat pyproject.toml constraints.txt
        find s3posixfs -name '*.py' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c 1-10)
    printf '%s-%s\n' "$(version)" "$sum"
}

# build_wheel FOLDER PIP: the package's wheel, without leaving anything in the checkout.
build_wheel() {
    local folder=$1 pip=$2 source=$1/source
    mkdir -p "$source"
    cp -R "$checkout"/{pyproject.toml,README.md,LICENSE,s3posixfs} "$source/"
    find "$source" -name __pycache__ -prune -exec rm -rf {} +
    "$pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$folder" "$source" \
        >"$folder/wheel.log" 2>&1 || {
        tail -n 20 "$folder/wheel.log" >&2
        die "the wheel could not be built: see above"
    }
    rm -rf "$source"
}

# make_environment PYTHON DIR: an environment with the package at $root$DIR that runs at DIR.
make_environment() {
    local python=$1 place=$2 work
    work=$(mktemp -d)
    say "  building the wheel of s3posixfs"
    # A pip of its own builds, so that the environment holds nothing but what runs.
    "$python" -m venv "$work/builder" || die "cannot make an environment with $python"
    build_wheel "$work" "$work/builder/bin/pip"
    rm -rf "$root$place"
    make_folder "$(dirname "$place")"
    "$python" -m venv --without-pip --symlinks "$root$place" || die "cannot make $root$place"
    say "  installing it with the distributions that it needs, of constraints.txt"
    "$work/builder/bin/pip" --python "$root$place/bin/python" install --quiet \
        --disable-pip-version-check --root-user-action ignore --no-compile \
        -c "$checkout/constraints.txt" "$work"/*.whl >"$work/install.log" 2>&1 || {
        tail -n 20 "$work/install.log" >&2
        rm -rf "$root$place"
        die "pip could not install the package: see above"
    }
    rm -rf "$work"
    rm -f "$root$place"/bin/[Aa]ctivate*
    if [ -n "$root" ]; then
        grep -rlIF "$root$place" "$root$place/bin" "$root$place/pyvenv.cfg" |
            xargs sed -i "s,$root$place,$place,g"
    fi
    say "  compiling $(find "$root$place/lib" -name '*.py' | wc -l) modules"
    # Nobody edits what is in it, so that nothing needs to look for that at each start.
    "$python" -m compileall -q -j 2 -s "$root" -p / --invalidation-mode unchecked-hash \
        "$root$place/lib" || die "cannot compile"
    # Whatever umask this is called under, users run what is in it.
    chmod -R u=rwX,go=rX "$root$place"
}

# Runs Python of the environment at $root$1, wherever that is to be in the end.
environment_python() {
    local place=$1
    shift
    PYTHONDONTWRITEBYTECODE=1 "$root$place/bin/python" -I "$@"
}

# make_folder FOLDER: $root/FOLDER and those above it; what was not there is noted in `placed`, with
# a slash at its end.
placed=()
make_folder() {
    [ ! -d "$root$1" ] || return 0
    make_folder "$(dirname "$1")"
    mkdir "$root$1" || die "cannot make $root$1"
    placed+=("$1/")
}

# put MODE FILE: standard input becomes $root/FILE, in one step, and is noted in `placed`.
put() {
    local mode=$1 file=$2 new=$root$2.s3posixfs-new
    make_folder "$(dirname "$file")"
    { cat >"$new" && chmod "$mode" "$new" && mv -f "$new" "$root$file"; } ||
        die "cannot write $root$file"
    placed+=("$file")
}

# link TARGET FILE: the symbolic link $root/FILE, in one step, and noted in `placed`.
link() {
    make_folder "$(dirname "$2")"
    { ln -sfn "$1" "$root$2.s3posixfs-new" && mv -fT "$root$2.s3posixfs-new" "$root$2"; } ||
        die "cannot write $root$2"
    placed+=("$2")
}

# completion SHELL PLACE: the script that has SHELL complete the command's arguments. It goes by
# itself: the entry point there may be of a root that is not this host's.
completion() {
    # shellcheck disable=SC2016
    environment_python "$2" -c 'import sys
from click.shell_completion import get_completion_class
from s3posixfs.cli.main import cli
shell = get_completion_class(sys.argv[1])
shell._check_version = staticmethod(lambda: None)
print(shell(cli, {}, "s3posixfs", "_S3POSIXFS_COMPLETE").source())' "$1"
}

# place_files PLACE BIN: all that stands outside of the environment, but configuration. BIN is the
# folder of entry points that commands lead to.
place_files() {
    local place=$1 bin=$2 pair page shell unit manuals target
    link "$bin/s3posixfs" "$prefix/bin/s3posixfs"
    for pair in "${HELPERS[@]}"; do
        link "$bin/${pair#*:}" "/usr/sbin/${pair%:*}"
    done
    for unit in "$checkout"/packaging/systemd/*.service; do
        put 644 "$units/${unit##*/}" < <(sed "s,@BIN@,$prefix/bin,g" "$unit")
    done
    manuals=$(mktemp -d)
    environment_python "$place" "$checkout/scripts/lib/manual.py" "$checkout/packaging/man" \
        "$manuals" || die "the man pages could not be made"
    for page in "$manuals"/*; do
        put 644 "$prefix/share/man/man${page##*.}/${page##*/}.gz" < <(gzip -9nc "$page")
    done
    rm -rf "$manuals"
    for page in mount.fuse.s3posixfs umount.s3posixfs umount.fuse.s3posixfs; do
        link mount.s3posixfs.8.gz "$prefix/share/man/man8/$page.8.gz"
    done
    for shell in bash zsh fish; do
        case $shell in
        bash) target=$prefix/share/bash-completion/completions/s3posixfs ;;
        zsh) target=$prefix/share/zsh/${zsh_folder:-site-functions}/_s3posixfs ;;
        fish) target=$prefix/share/fish/vendor_completions.d/s3posixfs.fish ;;
        esac
        put 644 "$target" < <(completion "$shell" "$place")
    done
}

# The files of /etc/s3posixfs with their modes, as `mode name` lines.
sample_configuration() {
    printf '%s\n' '644 identities.toml' '600 credentials' '644 example.conf' '644 store.conf'
}
