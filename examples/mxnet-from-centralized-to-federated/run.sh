#!/usr/bin/env bash
# One server and two clients on this machine; exits with the server's code. Whatever ends it, everything that it started
# ends too. PYTHON has umbel and MXNet; SERVER_PYTHON needs umbel only; PORT is where they meet.
set -um # -m: each process gets Ctrl-C from the trap below, once, and can end in its own way

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
port=${PORT:-8080}

failed=0
one_failed() {
  [ "$failed" -eq 1 ] && return
  # With one client left, the server would wait for ever.
  echo "run.sh: a client failed; its message is above. Stopping the server." >&2
  failed=1
  kill -INT "$server" 2>/dev/null
}
client() {
  "$python" "$here/client.py" --partition-id "$1" --server-address "127.0.0.1:$port" || kill -USR1 $$
}

"${SERVER_PYTHON:-$python}" "$here/server.py" --server-address "127.0.0.1:$port" &
server=$!
trap 'kill -INT "$server" 2>/dev/null' INT
trap 'kill -TERM "$server" 2>/dev/null' TERM HUP
trap one_failed USR1

clients=()
for id in 0 1; do
  client "$id" &
  clients+=($!)
done

wait "$server"
code=$?
while kill -0 "$server" 2>/dev/null; do # a trap ran: the server is still there, or on its way out
  wait "$server"
  code=$?
done

# The server has told the clients that it is over. They get five seconds to leave by themselves.
trap '' USR1
for _ in {1..50}; do
  [ -z "$(jobs -rp)" ] && break
  sleep 0.1
done
for id in "${clients[@]}"; do
  kill -TERM -- "-$id" 2>/dev/null # the whole group: the shell function and its Python
done
wait
[ "$failed" -eq 1 ] && code=1
exit "$code"
