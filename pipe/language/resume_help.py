"""What ``help resume`` prints: two functions for a shell, which carry a file over lost connections.

A dash in a function's name is an error in dash and other shells that keep to POSIX.
"""

from __future__ import annotations

TOPIC = "resume"
"""The word behind ``help``."""

ALIVE = "-o ServerAliveInterval=15 -o ServerAliveCountMax=3"
"""Options of `ssh`: without them it takes a connection that is dead for one that is silent."""

_TEXT = r"""# Sends and receives files over lost connections. For any shell that knows POSIX:
#
#     @ssh@ help resume > resume.sh
#     . ./resume.sh
#     pipe_get TOPIC FILE      # FILE.pipe says which stream it is: it can be called again
#     pipe_send FILE TOPIC     # waits for a reader
#
# Both try again when the connection is lost, go on with the byte that comes next, and end with
# the status of the transfer; a refusal ends them at once. Either side waits PIPE_HOLD (1h) for the
# other, the server keeps PIPE_KEEP (16MiB) for the reader, and PIPE_TRIES (100) tries may fail in
# a row. PIPE_ALIAS is how your ~/.ssh/config calls the server: set it if ssh needs more of what
# stands there, such as a key. Nothing survives a restart of the server: that ends them with 75.

pipe_ssh() {
    if [ "${PIPE_ALIAS:-}" ]; then
        ssh @alive@ "$PIPE_ALIAS" "$@"
    else
        ssh @alive@ @target@ "$@"
    fi
}

# Whether a status of ssh says that the connection was lost: 255, 137 (ssh was killed), 69.
pipe_lost() {
    [ "$1" = 255 ] || [ "$1" = 137 ] || [ "$1" = 69 ]
}

# Wait 1, 2, 4, 8, 16 and then 30 seconds, or give up.
pipe_rest() {
    try=$((try + 1))
    [ "$try" -le "${PIPE_TRIES:-100}" ] || return 1
    [ "$try" -gt 5 ] && pause=30 || pause=$((1 << try >> 1))
    echo "$name: connection lost; next try in $pause s" >&2
    sleep "$pause"
}

pipe_size() {
    echo $(($(wc -c < "$1")))
}

# Ask how many bytes were taken, and keep the answer in $taken.
pipe_ask() {
    while :; do
        taken=$(pipe_ssh offset "$1" < /dev/null) && return
        asked=$?
        pipe_lost "$asked" && pipe_rest || return "$asked"
    done
}

# Run ssh with its output on 3, what it says also in the file $said, and print its status.
pipe_run() {
    { {
        pipe_ssh "$@" 2>&1 >&3 4>&-
        echo $? >&4
    } | tee -a "$said" >&2 4>&-; } 4>&1
}

pipe_send() (
    name=pipe_send try=0 at=0
    [ $# = 2 ] && [ -r "$1" ] && [ -n "$2" ] || { echo "usage: pipe_send FILE TOPIC" >&2; exit 64; }
    size=$(pipe_size "$1") || exit 66
    said=$(mktemp) || exit 73
    trap 'rm -f "$said"' EXIT
    exec 3> /dev/null
    pipe_ssh version < /dev/null > /dev/null || exit
    while :; do
        status=$(tail -c "+$((at + 1))" "$1" | pipe_run pub -v --size "$size" --at "$at" \
            --keep "${PIPE_KEEP:-16MiB}" --hold "${PIPE_HOLD:-1h}" "$2")
        if pipe_lost "$status"; then
            pipe_rest || exit "$status"
        elif [ "$status" != 75 ]; then
            exit "$status"
        fi
        if pipe_ask "$2"; then
            [ "$status" = 75 ] && [ "$taken" = "$at" ] && exit 75
            [ "$taken" -gt "$at" ] && try=0
            at=$taken
        else
            asked=$?  # it is gone, unless it never came to be
            [ "$asked$status" != 7575 ] && ! grep -q "are kept" "$said" || exit "$asked"
        fi
    done
)

# Which stream the file has a part of.
pipe_stream() {
    sed -n 's/.*begins with byte [0-9]* of stream \([0-9a-f]*\).*/\1/p' "$1.pipe" 2> /dev/null |
        tail -n 1
}

pipe_get() (
    name=pipe_get try=0
    [ $# = 2 ] && [ -n "$1" ] || { echo "usage: pipe_get TOPIC FILE" >&2; exit 64; }
    stream=$(pipe_stream "$2")
    if [ -s "$2" ] && [ -z "$stream" ]; then
        echo "pipe_get: $2 exists, and no $2.pipe says of which stream it is a part" >&2
        exit 64
    fi
    exec 3>> "$2" || exit 73
    said=$2.pipe
    pipe_ssh version < /dev/null > /dev/null || exit
    while :; do
        size=$(pipe_size "$2") || exit 66
        [ -z "$stream" ] || echo "begins with byte 0 of stream $stream" > "$2.pipe"
        status=$(pipe_run sub -v --hold "${PIPE_HOLD:-1h}" --from "$size" \
            ${stream:+--stream "$stream"} "$1" < /dev/null)
        if [ "$status" = 0 ]; then
            rm -f "$2.pipe"
            exit 0
        fi
        pipe_lost "$status" || exit "$status"
        stream=$(pipe_stream "$2")
        if [ -s "$2" ] && [ -z "$stream" ]; then
            echo "pipe_get: nothing is kept of $1, so nobody can go on with it" >&2
            exit 75
        fi
        [ "$(pipe_size "$2")" -gt "$size" ] && try=0
        pipe_rest || exit "$status"
    done
)
"""


def resume_help(ssh: str) -> str:
    """Write the functions.

    Args:
        ssh: how to reach the server, from `pipe.language.requests.ssh_command`.
    """
    text = _TEXT.replace("@ssh@", ssh).replace("@alive@", ALIVE)
    return text.replace("@target@", ssh.removeprefix("ssh "))
