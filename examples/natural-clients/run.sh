#!/usr/bin/env bash
# One server and six clients on this machine; exits with the server's code. Whatever ends it, everything that it started
# ends too. PYTHON has umbel and matplotlib; PORT is where they meet.
# Its argument is the task: "visits" or "lines". Pictures go into the folder that it is called from.
set -um # -m: each process gets Ctrl-C from the trap below, once, and can end in its own way

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
task=${1:?"which one? bash run.sh visits, or bash run.sh lines"}
port=${PORT:-8080}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # six at once have no use for more

failed=0
one_failed() {
  # The server wants all six, and would wait for ever.
  if [ "$failed" -eq 0 ]; then
    echo "run.sh: a client failed; its message is above. Stopping the server." >&2
    kill -INT "$server" 2>/dev/null
  fi
  failed=$((failed + 1))
}
client() {
  "$python" "$here/client.py" "$task" --node-id "$1" --server-address "127.0.0.1:$port" || kill -USR1 $$
}

"$python" "$here/server.py" "$task" --server-address "127.0.0.1:$port" &
server=$!
trap 'kill -INT "$server" 2>/dev/null' INT
trap 'kill -TERM "$server" 2>/dev/null' TERM HUP
trap one_failed USR1

clients=()
for id in 0 1 2 3 4 5; do
  client "$id" &
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
[ "$failed" -gt 0 ] && code=1
exit "$code"
