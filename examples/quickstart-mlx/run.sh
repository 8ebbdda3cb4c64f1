#!/usr/bin/env bash
# One server and three clients on this machine; exits with the server's code. Whatever ends it, everything that it started
# ends too. PYTHON has umbel and mlx; PORT is where they meet.
set -um # -m: each process gets Ctrl-C from the trap below, once, and can end in its own way

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
port=${PORT:-8080}
export HF_DATASETS_DISABLE_PROGRESS_BARS=${HF_DATASETS_DISABLE_PROGRESS_BARS:-1} # three at once are unreadable

failures=$(mktemp) # a line for each; signals that come together count as one
failed=0
one_failed() {
  [ "$failed" -eq 3 ] && return
  failed=$(($(wc -l <"$failures")))
  # With no client left, the server would wait for ever.
  if [ "$failed" -eq 3 ]; then
    echo "run.sh: all three clients failed; their messages are above. Stopping the server." >&2
    kill -INT "$server" 2>/dev/null
  fi
}
client() {
  "$python" "$here/client.py" --node-id "$1" --server-address "127.0.0.1:$port" "${@:2}" && return
  echo "$1" >>"$failures"
  kill -USR1 $$
}

"$python" "$here/server.py" --server-address "127.0.0.1:$port" &
server=$!
trap 'kill -INT "$server" 2>/dev/null' INT
trap 'kill -TERM "$server" 2>/dev/null' TERM HUP
trap one_failed USR1

clients=()
for id in 0 1 2; do
  client "$id" "$@" & # arguments of run.sh, such as --gpu, are for the clients
  clients+=($!)
done

wait "$server"
code=$?
while kill -0 "$server" 2>/dev/null; do # a trap ran: the server is still there, or on its way out
  wait "$server"
  code=$?
done

# A server that ended well has told the clients, and they get five seconds to leave by themselves.
trap '' USR1
if [ "$code" -eq 0 ] || [ "$code" -eq 130 ]; then
  for _ in {1..50}; do
    kill -0 "${clients[@]}" 2>/dev/null || break
    sleep 0.1
  done
fi
{
  for id in "${clients[@]}"; do
    kill -TERM -- "-$id" # the whole group: the shell function and its Python
  done
  wait
} 2>/dev/null
rm -f "$failures"
[ "$failed" -eq 3 ] && code=1
exit "$code"
