#!/usr/bin/env bash
# One server and two clients on this machine; exits with the server's code. Whatever ends it, everything that it started
# ends too. PYTHON has umbel and MXNet; SERVER_PYTHON needs umbel only; PORT is where they meet.
set -um # -m: each process gets Ctrl-C from the trap below, once, and can end in its own way

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
port=${PORT:-8080}

"${SERVER_PYTHON:-$python}" "$here/server.py" --server-address "0.0.0.0:$port" &
server=$!
"$python" "$here/client.py" --partition-id 0 --server-address "127.0.0.1:$port" &
clients=($!)
"$python" "$here/client.py" --partition-id 1 --server-address "127.0.0.1:$port" &
clients+=($!)

trap 'kill -INT "$server" 2>/dev/null' INT
trap 'kill -TERM "$server" 2>/dev/null' TERM HUP

wait "$server"
code=$?
while kill -0 "$server" 2>/dev/null; do # a trap ran: the server is still on its way out
  wait "$server"
  code=$?
done

# The server has told the clients that it is over. They get five seconds to leave by themselves.
for _ in {1..50}; do
  kill -0 "${clients[@]}" 2>/dev/null || break
  sleep 0.1
done
kill "${clients[@]}" 2>/dev/null
wait
exit "$code"
