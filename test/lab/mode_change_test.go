package lab

import (
	"cmp"
	"os"
	"testing"
)

// modeChangeTopology starts in subnet mode. The global service has its pod on the other
// node, where nothing of its namespace is; of the tenant's own service everything is
// near. Clients are tenants.
const modeChangeTopology = `
mode: subnet
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: red}, {name: infra, vnid: 0}]
pods:
- {namespace: red, name: client, node: node1}
- {namespace: red, name: web, node: node1, labels: {app: web}}
- {namespace: infra, name: web, node: node2, labels: {app: web}}
services:
- {namespace: red, name: web, clusterIP: 172.30.0.10, selector: {app: web}, ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 80, targetPort: 8080, protocol: UDP}]}
- {namespace: infra, name: web, clusterIP: 172.30.0.11, selector: {app: web}, ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 80, targetPort: 8080, protocol: UDP}]}
`

// TestServicesAnswerWhileTheModeChanges: what both modes allow loses no packet.
func TestServicesAnswerWhileTheModeChanges(t *testing.T) {
	c := up(t, modeChangeTopology)
	flows := map[string]*background{}
	for service, addr := range map[string]string{"red/web": "172.30.0.10:80", "infra/web": "172.30.0.11:80"} {
		c.start(inPod(service), "reply", "8080")
		c.settled(t, service, 1)
		// Slow enough that a busy machine loses nothing by itself.
		flows[service] = c.start(inPod("red/client"), "flow", addr, cmp.Or(os.Getenv("DAMASK_PACE"), "5ms"))
	}
	for _, mode := range []string{"multitenant", "subnet", "multitenant", "subnet", "multitenant"} {
		c.ctl("mode", "set", mode)
	}
	for service, f := range flows {
		seen := readTraffic(t, f)
		if lost := seen.UDPSent - seen.UDPReturned; lost != 0 || seen.UDPSent == 0 {
			t.Errorf("%s: %d of %d datagrams were lost", service, lost, seen.UDPSent)
		}
		if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent || seen.Refused != 0 || seen.Connected == 0 {
			t.Errorf("%s: %+v", service, seen)
		}
	}
}
