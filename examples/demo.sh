#!/usr/bin/env bash
# The main job, shown: a cluster of three nodes on real Open vSwitch, two
# tenants, and real packets for each case, with what happened in plain words.
# It ends with an error if anything happens that should not.
set -euo pipefail
cd "$(dirname "$0")/.."

damask=bin/damask
lab=demo
bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
wrong=0

if [ "$(id -u)" -ne 0 ]; then
  echo "make demo makes network namespaces and needs root: run it as root" >&2
  exit 1
fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
pod() { local name=$1; shift; "$damask" lab pod exec --name "$lab" "$name" -- "$@"; }
address() { pod "$1" ip -4 -o addr show eth0 | awk '{split($4, a, "/"); print a[1]}'; }

# expect yes|no WORDS COMMAND...: run a command that should succeed or not.
expect() {
  local want=$1 words=$2 got=yes output
  shift 2
  echo "   \$ ${*/#pod/damask lab pod exec --name $lab}"
  output=$("$@" 2>&1) || got=no
  sed 's/^/     /' <<<"$output" | grep -E 'bytes from|loss|ttl' | head -n 3 || true
  if [ "$got" = "$want" ]; then
    echo "   → $words"
  else
    echo "   → NOT AS IT SHOULD BE: $words"
    wrong=1
  fi
}

# shares N: say who answered, and whom they saw; N servers, and no connection failed.
shares() {
  local answers
  answers=$(tail -n 1 | tee "$fifos/answers" | grep -o '"[^" ]* [0-9.]*":[0-9]*' | tr -d '"' | sort | awk -F '[ :]' '{printf "     %s answered %d times, and saw %s\n", $1, $3, $2}')
  echo "$answers"
  if [ "$(awk '{print $1}' <<<"$answers" | sort -u | wc -l)" -eq "$1" ] && ! grep -q errors "$fifos/answers"; then
    echo "   → all answered"
  else
    echo "   → NOT AS IT SHOULD BE: $(cat "$fifos/answers")"
    wrong=1
  fi
}

# leaves_by ADDRESS POD...: from which address the host outside sees new connections of
# pods; it must be this one.
leaves_by() {
  local want=$1 name seen
  shift
  for name in "$@"; do
    seen=$(pod "$name" bin/probe check <<<"tcp $outside:7000 100" | grep -o '"source":"[^"]*"' | cut -d'"' -f4)
    echo "     $name is seen as $seen"
    if [ "$seen" != "$want" ]; then
      echo "   → NOT AS IT SHOULD BE: want $want"
      wrong=1
    fi
  done
}

node_ip() { "$damask" get hostsubnet "$1" --lab "$lab" | awk 'NR == 2 {print $3}'; }
fifos=$(mktemp -d)
trap 'rm -rf "$fifos"; kill $(jobs -p) 2>/dev/null || true' EXIT

say "Starting a cluster of three nodes. Each has its own ovsdb-server, ovs-vswitchd and agent, in network namespaces; this machine's own network is not touched."
"$damask" lab down --name "$lab" >/dev/null 2>&1 || true
"$damask" lab up --name "$lab" -f examples/demo.yaml

say "Each node has a subnet, each namespace a VNID."
"$damask" get hostsubnets --lab "$lab"
echo
"$damask" get netnamespaces --lab "$lab"
echo
"$damask" get pods --lab "$lab"

say "1. Same node, same tenant: red/web to red/cache, both on node1. The packet never leaves br0 (tables 0, 20, 21, 30, 70, 80)."
expect yes "answered" pod red/web ping -c 3 -i 0.2 -W 1 "$(address red/cache)"

say "2. Another node, same tenant: red/web on node1 to red/db on node2. It crosses by VXLAN with red's VNID on it (table 90, then 10 on the other side)."
expect yes "answered" pod red/web ping -c 3 -i 0.2 -W 1 "$(address red/db)"

say "3. Another tenant: red/web to blue/web on node3. Table 80 of node3 finds that the VNIDs differ, and drops."
expect no "no answer, as it should be" pod red/web ping -c 2 -i 0.2 -W 1 "$(address blue/web)"

say "4. The tenants join: blue takes red's VNID. No pod is restarted; node3's flows change in one bundle."
"$damask" pod-network join-projects --to red blue --lab "$lab"
expect yes "answered" pod red/web ping -c 3 -i 0.2 -W 1 "$(address blue/web)"

say "5. And part again."
"$damask" pod-network isolate-projects blue --lab "$lab"
expect no "no answer, as it should be" pod red/web ping -c 2 -i 0.2 -W 1 "$(address blue/web)"

say "6. To the outside: red/web to a host that is not of the cluster, masqueraded as node1."
outside=$("$damask" lab outside exec --name "$lab" -- ip -4 -o addr show scope global | awk '{split($4, a, "/"); print a[1]; exit}')
expect yes "answered" pod red/web ping -c 3 -i 0.2 -W 1 "$outside"

say "7. A lie: red/web gives itself the address of blue/web and pings with it. Table 20 knows which address belongs to which port."
forged=$(address blue/web)
pod red/web ip addr add "$forged/32" dev lo
expect no "no answer, as it should be" pod red/web ping -c 2 -i 0.2 -W 1 -I "$forged" "$(address red/db)"
pod red/web ip addr del "$forged/32" dev lo

say "8. A service: 172.30.0.10 stands for red/cache on node1 and red/db on node2, by their label. Each connection gets one of them, and it sees the pod that asks, not a node."
go build -o bin/probe ./test/probe
for backend in cache db web; do
  mkfifo "$fifos/$backend"
  "$damask" lab pod exec --name "$lab" "red/$backend" -- bin/probe serve 8080 "red/$backend" <"$fifos/$backend" >/dev/null &
  exec {kept}>"$fifos/$backend"   # it serves until this closes
done
"$damask" service wait red/shop --endpoints 2 --lab "$lab"
"$damask" get services --lab "$lab"
"$damask" get endpoints --lab "$lab"
echo "   red/web asks 40 times:"
shares 2 < <(pod red/web bin/probe load tcp 172.30.0.10:80 count 40)
echo "   red/db asks 40 times; when it gets itself, it is seen as its node's gateway:"
shares 2 < <(pod red/db bin/probe load tcp 172.30.0.10:80 count 40)

say "9. The same from outside: a port of node3, where no pod of the service is. The pods see node3's gateway."
shares 2 < <("$damask" lab outside exec --name "$lab" -- bin/probe load tcp "$(node_ip node3):30080" count 40)

say "10. Another tenant: blue/web asks for red's service. Table 60 of its node finds that the VNIDs differ."
expect no "no answer, as it should be" pod blue/web timeout 2 bin/probe load tcp 172.30.0.10:80 count 1

say "11. 200 new connections a second from red/web, while red/web itself becomes a third endpoint and goes again, each in force on all nodes before the next line."
mkfifo "$fifos/load"
pod red/web bin/probe load tcp 172.30.0.10:80 rate 200 <"$fifos/load" >"$fifos/load.out" &
loading=$!
exec {kept}>"$fifos/load"
cat >"$fifos/slice.yaml" <<END
endpointSlices:
- {namespace: red, name: shop-more, serviceName: shop, ports: [{port: 8080}], endpoints: [{addresses: ["$(address red/web)"], nodeName: node1}]}
END
sleep 1
"$damask" service apply -f "$fifos/slice.yaml" --lab "$lab"
"$damask" get endpoints red/shop --lab "$lab"
sleep 1
"$damask" delete endpointslice red/shop-more --lab "$lab"
"$damask" service wait red/shop --lab "$lab"
sleep 0.5
exec {kept}>&-
wait "$loading"
shares 3 <"$fifos/load.out"

say "12. An egress IP: red leaves the cluster by 192.168.108.200, wherever its pods are. node2 hosts it, and node3 stands by. Nobody else's packets have it."
mkfifo "$fifos/outside"
"$damask" lab outside exec --name "$lab" -- bin/probe serve 7000 outside <"$fifos/outside" >/dev/null &
exec {listening}>"$fifos/outside"
echo "   before:"
leaves_by "$(node_ip node1)" red/web
for node in node2 node3; do
  "$damask" patch hostsubnet "$node" -p '{"egressIPs": ["192.168.108.200"]}' --lab "$lab"
done
"$damask" patch netnamespace red -p '{"egressIPs": ["192.168.108.200"]}' --lab "$lab"
"$damask" get egressips --lab "$lab"
leaves_by 192.168.108.200 red/web red/db
leaves_by "$(node_ip node3)" blue/web

say "13. node2 loses its power. Its neighbours notice that it is silent, and node3 takes the address; red/web asks 20 times a second meanwhile."
mkfifo "$fifos/series"
pod red/web bin/probe series tcp "$outside:7000" 50ms <"$fifos/series" >"$fifos/series.out" &
asking=$!
exec {kept}>"$fifos/series"
sleep 1
"$damask" lab kill --name "$lab" node2
sleep 4
exec {kept}>&-
wait "$asking"
"$damask" get egressips --lab "$lab"
echo "   red/web was seen as $(grep -o '"source":"[^"]*"' "$fifos/series.out" | cut -d'"' -f4 | sort | uniq -c | awk '{print $2 ", " $1 " times"}'); not answered: $(grep -o '"error"' "$fifos/series.out" | wc -l)"
if [ "$(grep -o '"source":"[^"]*"' "$fifos/series.out" | sort -u)" != '"source":"192.168.108.200"' ]; then
  echo "   → NOT AS IT SHOULD BE"
  wrong=1
fi
leaves_by 192.168.108.200 red/web
"$damask" lab start --name "$lab" node2

say "The flows of node1 that mention red/web, with what each is for:"
"$damask" flows node1 --lab "$lab" | grep -F -e red/web | head -n 12 || true

cat <<END

${bold}The cluster is still up.${plain} Look around:
   bin/damask lab status --name $lab                          the processes, where their logs are
   bin/damask flows node1 --lab $lab                          every flow, and whose it is
   bin/damask lab node exec --name $lab node1 -- ovs-vsctl show
   bin/damask lab pod add --name $lab red/extra --node node3  another pod
   bin/damask lab kill --name $lab node1 nodeagent            nothing on the wire notices
${bold}Stop it:${plain} make demo-down
END
exit $wrong
