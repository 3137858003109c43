/**
 * The agent inside a Linux guest: busybox `sh` and applets only, so that any kernel will do. It reads requests from its
 * standard input and answers on its standard output, both the guest's second serial port. How they look: agent-link.ts.
 */

/** Output of one command beyond this is cut off. */
export const OUTPUT_LIMIT_BYTES: number = 3 * 1024 * 1024;

const PAGE_BYTES = 4096;

/**
 * Memory of the guest that its kernel leaves alone: what is in it costs no exit, where each character of the serial
 * port is one. `/dev/mem` reaches it. Places of command, output and errors are in bytes from its start.
 */
export const WINDOW = {
  gpa: 0x580_0000,
  sizeBytes: 8 * 1024 * 1024,
  /** Guests with less memory have none. */
  minMemoryBytes: 128 * 1024 * 1024,
  command: 0,
  output: 16 * PAGE_BYTES,
  errors: 1024 * PAGE_BYTES,
} as const;

/** What the kernel's command line says of it. */
export const WINDOW_WORDS = `memmap=${WINDOW.sizeBytes / 2 ** 20}M$0x${WINDOW.gpa.toString(16)} guest.window=${WINDOW.gpa}`;

/**
 * Each command has a folder with its output, so that an answer that did not arrive whole can be sent again; and a
 * session of its own, so that it can be killed with everything that it started. The loop only starts things and stays
 * able to answer.
 */
export const AGENT_SCRIPT = `#!/bin/sh
set -f
base=\${GUEST_AGENT_DIR:-/run/agent}
mkdir -p "$base"

# Where the window is, if there is one.
memory=\${GUEST_MEMORY:-/dev/mem}
window=$GUEST_WINDOW
for word in $(cat /proc/cmdline); do
  case $word in guest.window=*) window=\${word#*=} ;; esac
done
[ -n "$window" ] && window=$(($window / ${PAGE_BYTES}))

say() { printf '\\n@%s\\n' "$*"; }

size() { # of a file; a program is started only where there is something to count
  if [ -s "$1" ]; then wc -c < "$1"; else echo 0; fi
}

digest() { # of a file
  if [ -s "$1" ]; then md5sum < "$1"; else echo -; fi
}

put() { # file, place in the window
  [ -n "$window" ] || return
  dd if="$1" of="$memory" bs=${PAGE_BYTES} seek=$(($window + $2 / ${PAGE_BYTES})) conv=notrunc 2> /dev/null
}

show() { # letter, sequence, file, place in the window
  [ -s "$3" ] || return
  if put "$3" "$4"; then say "$1" "$2" window; return; fi
  say "$1" "$2"
  base64 < "$3"
}

send() { # sequence
  dir=$base/$1
  if ! [ -e "$dir/code" ]; then say N "$1"; return; fi
  read -r code < "$dir/code"
  set -- "$1" "$code" $(size "$dir/out") $(size "$dir/err") 0
  if [ "$3" -ge ${OUTPUT_LIMIT_BYTES} ] || [ "$4" -ge ${OUTPUT_LIMIT_BYTES} ]; then
    shorten "$dir/out"
    shorten "$dir/err"
    set -- "$1" "$code" $(size "$dir/out") $(size "$dir/err") 1
  fi
  show O "$1" "$dir/out" ${WINDOW.output}
  show E "$1" "$dir/err" ${WINDOW.errors}
  check=$((($1 + 3 * $2 + 5 * $3 + 7 * $4 + 11 * $5) % 65521))
  say R "$@" $check $(digest "$dir/out") $(digest "$dir/err")
  # The next request may have come already, and taken the folder away.
  { : > "$dir/sent"; } 2> /dev/null
}

shorten() { # file
  head -c ${OUTPUT_LIMIT_BYTES} "$1" > "$1.short"
  mv "$1.short" "$1"
}

prepare() { # sequence
  set +f
  rm -rf "$base"/[0-9]*
  set -f
  mkdir "$base/$1"
}

execute() { # sequence
  dir=$base/$1
  setsid sh "$dir/command" > "$dir/out" 2> "$dir/err" < /dev/null &
  echo $! > "$dir/pid"
  wait $!
  echo $? > "$dir/code.new"
  mv "$dir/code.new" "$dir/code"
  send "$1"
}

if [ -n "$window" ] && [ -e "$memory" ]; then say H "$(uname -r)" window; else say H "$(uname -r)"; fi
while IFS= read -r line; do
  set -- $line
  case $1 in
  P) if [ -e "$base/$2/sent" ]; then say P "$2" sent; else say P "$2"; fi ;;
  A) send "$2" & ;;
  R)
    # A request that lost a character is asked for again.
    if [ $# -eq 4 ] && [ \${#4} -eq "$3" ]; then
      prepare "$2"
      printf %s "$4" | base64 -d > "$base/$2/command"
      execute "$2" &
    else say N "$2"; fi
    ;;
  W)
    prepare "$2"
    dd if="$memory" bs=${PAGE_BYTES} skip="$window" count=${WINDOW.output / PAGE_BYTES} 2> /dev/null | head -c "$3" > "$base/$2/command"
    sum=$(md5sum < "$base/$2/command")
    if [ $# -eq 4 ] && [ "\${sum%% *}" = "$4" ]; then execute "$2" &
    else say N "$2"; fi
    ;;
  K)
    pid=$(cat "$base/$2/pid" 2> /dev/null) && { kill -9 "-$pid" || kill -9 "$pid"; } 2> /dev/null
    ;;
  Q)
    sync
    poweroff -f
    ;;
  esac
done
`;
