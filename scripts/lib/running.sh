# Of scripts/install, and pasted into the Debian package's maintainer scripts: POSIX sh.
# shellcheck shell=sh

# running HOME [ROOT]: the processes that run from an environment below HOME/versions of the host
# whose root is ROOT (empty: this one), as lines `PID NAME-OF-ENVIRONMENT`. Their command lines
# tell, which begin with the Python in it; those of another root, in a container, have another HOME.
running() {
    for process in /proc/[0-9]*; do
        words=$({ tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null) || continue
        case $words in
        "$1"/versions/*/bin/python*)
            # shellcheck disable=SC3013 # dash has -ef
            [ "$process/root$1" -ef "${2:-}$1" ] || continue
            words=${words#"$1"/versions/}
            printf '%s %s\n' "${process#/proc/}" "${words%%/*}"
            ;;
        esac
    done
}

# name_running HOME [ROOT [NAME]]: what runs, but from the environment NAME, for a person to read.
name_running() {
    running "$1" "${2:-}" | while read -r pid environment; do
        [ "$environment" = "${3:-}" ] && continue
        printf '         process %s: ' "$pid"
        # `PYTHON PROGRAM arguments`, or `PYTHON -m MODULE SOURCE MOUNTPOINT FD`.
        tr '\0' ' ' <"/proc/$pid/cmdline" | sed 's,^[^ ]* \([^ ]*/\)\?,,
            s,^-m s3posixfs\.cli\.daemon \(.*\) [0-9]* $,mount \1,'
        echo
    done
}
