# Shared by scripts/run and scripts/test: Debian packages and the virtual environment.
# Source it after setting `checkout` to the top folder of the checkout.
# shellcheck shell=bash

export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
venv=$checkout/.venv

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Mounting for several users and acting as them takes root.
become_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null || die "run this as root, or install sudo"
    exec sudo -- "$0" "$@"
}

# Prints those of the named Debian packages that are not installed.
missing_packages() {
    local name
    for name in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed ||
            printf '%s\n' "$name"
    done
}

# Installs the named Debian packages where they are missing; asks the mirror only then.
need_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        die "this sets up Debian hosts only; elsewhere install the counterparts of: ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    apt-get update -qq || die "apt-get update failed: see its message above"
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install: ${missing[*]}"
}

# The newest of the interpreters at hand that is new enough, Debian's own first.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer with its venv module is needed"
}

# make_venv runtime|dev: the package, editable, with the versions of constraints.txt. Does nothing
# while what it depends on is as it was; `dev` holds all of `runtime`.
make_venv() {
    local kind=$1 wanted stamp=$venv/.installed python target
    wanted=$(cat "$checkout/pyproject.toml" "$checkout/constraints.txt" <(printf '%s' "$checkout") |
        sha256sum | cut -d ' ' -f 1)
    if [ -r "$stamp" ]; then
        case $(cat "$stamp") in
        "$wanted $kind" | "$wanted dev") return 0 ;;
        esac
    fi
    python=$(find_python) || exit 1
    say "making .venv with $("$python" --version) ($kind)"
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        rm -rf "$venv"
        "$python" -m venv "$venv" || die "cannot make $venv"
    fi
    target=$checkout
    [ "$kind" = runtime ] || target="$checkout[$kind]"
    rm -f "$stamp"
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --root-user-action ignore -c "$checkout/constraints.txt" -e "$target" \
        >"$venv/install.log" 2>&1; then
        tail -n 20 "$venv/install.log" >&2
        die "pip could not install the package: see its message above"
    fi
    printf '%s %s\n' "$wanted" "$kind" >"$stamp"
    # Called through sudo, the environment belongs to whom the checkout belongs to.
    chown -R --reference="$checkout" "$venv"
    say "the virtual environment is ready"
}

RUNTIME_PACKAGES=(fuse3 libfuse3-dev pkg-config gcc libc6-dev python3 python3-dev python3-venv)
TEST_PACKAGES=(attr binutils curl fish git groff-base libfaketime make mandoc rclone rsync s3cmd s3fs systemd util-linux vagrant zsh)
# Of the test layer against a real Ceph gateway, and of scripts/rgw-up.
RGW_PACKAGES=(ceph-mon ceph-mgr ceph-osd radosgw ceph-common)
