package kubelets

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// spread is a server on each node. What it is asked for is asked by its kubelet.
const spread = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: localhost/damask-test:dev
        command: [/probe, serve, "8080", web]
        stdin: true
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`

// bridge is the configuration of the reference plugin, with a subnet for each node.
const bridge = `{"cniVersion": "1.0.0", "name": "bridge", "plugins": [
	{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.128.%d.0/24"}]]}}]}`

// The nodes are nodes without anything of Damask: what fails with it and not here is
// Damask's.
func TestNodesRunPodsWithTheReferencePlugin(t *testing.T) {
	began := time.Now()
	c := start(t, 3, []string{testArchive})
	for i, n := range c.nodes {
		n.Run(t, "/bin/mkdir", "-p", "/opt/cni/bin", "/etc/cni/net.d")
		// containerd 1.6 has each pod's lo set up by a plugin too.
		n.Run(t, "/bin/cp", "/usr/lib/cni/bridge", "/usr/lib/cni/host-local", "/usr/lib/cni/loopback", "/opt/cni/bin/")
		n.Write(t, "/etc/cni/net.d/10-bridge.conflist", fmt.Appendf(nil, bridge, i))
	}
	c.until(t, "True True True", "get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
	t.Logf("three nodes are ready after %v", time.Since(began).Round(time.Second))
	c.Apply(t, spread)
	c.wait(t, "deployment/web", "--for=jsonpath={.status.readyReplicas}=3")
	nodes := c.Kubectl(t, "get", "pods", "-l", "app=web", "--sort-by=.spec.nodeName", "-o", "jsonpath={.items[*].spec.nodeName}")
	if nodes != "node1 node2 node3" {
		t.Errorf("the servers are on %s", nodes)
	}
	for _, addr := range strings.Fields(c.Kubectl(t, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}")) {
		if !strings.HasPrefix(addr, "10.128.") {
			t.Errorf("a pod has the address %s", addr)
		}
	}
	t.Logf("a Deployment is ready after %v", time.Since(began).Round(time.Second))
}
