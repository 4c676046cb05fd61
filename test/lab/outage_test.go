package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const replicated = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
replicas: {nats: 3, ipam: 2, tenancy: 2, servicelb: 2}
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: red}, {name: blue}]
pods:
- {namespace: red, name: client, node: node1}
- {namespace: red, name: far, node: node2}
- {namespace: blue, name: a, node: node2}
`

func TestNodesGoOnWithoutTheControlServicesAndCatchUp(t *testing.T) {
	c := up(t, replicated)
	c.start(inPod("red/far"), "reply", port)
	c.start(inPod("blue/a"), "serve", "9999", "blue/a")
	load := c.start(inPod("red/client"), "flow", c.podIP("red/far")+":"+port, pace())
	watch := c.watchFlows("node1")
	for _, service := range []string{"tenancy", "ipam", "servicelb", "nats"} {
		c.run("lab", "kill", "--name", c.name, service)
	}

	t.Run("an agent that starts now changes no flow", func(t *testing.T) {
		c.run("lab", "kill", "--name", c.name, "node1", "nodeagent")
		c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
		if events := watch.stop(); events != "" {
			t.Errorf("flows were changed:\n%s", events)
		}
	})
	t.Run("pods come and go in a namespace that the node knows", func(t *testing.T) {
		c.run("lab", "pod", "add", "--name", c.name, "red/new", "--node", "node1")
		c.start(inPod("red/new"), "serve", "9999", "red/new")
		wantAll(t, inPod("red/far"), c.check(inPod("red/far"), "tcp "+c.podIP("red/new")+":9999 1000"))
		c.run("lab", "pod", "add", "--name", c.name, "red/brief", "--node", "node1")
		c.run("lab", "pod", "delete", "--name", c.name, "red/brief")
	})
	t.Run("a pod of an unknown namespace is refused with the reason", func(t *testing.T) {
		out, err := c.try("lab", "pod", "add", "--name", c.name, "blue/b", "--node", "node1")
		if err == nil || !strings.Contains(out, "blue") {
			t.Errorf("answered %v:\n%s", err, out)
		}
	})
	t.Run("a command says that the service is away", func(t *testing.T) {
		begin := time.Now()
		out, err := c.try("--lab", c.name, "get", "netnamespaces")
		if err == nil || strings.Count(strings.TrimSpace(out), "\n") > 0 || !strings.Contains(out, "the tenancy service does not answer") {
			t.Errorf("answered %v:\n%s", err, out)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("after %s", took)
		}
	})

	for _, service := range []string{"nats", "ipam", "tenancy", "servicelb"} {
		c.run("lab", "start", "--name", c.name, service)
	}
	t.Run("everything catches up by itself", func(t *testing.T) {
		c.wantRegistered(t, "new", true)
		c.wantRegistered(t, "brief", false)
		c.ctl("pod-network", "join-projects", "--to", "red", "blue")
		wantAll(t, inPod("red/new"), c.check(inPod("red/new"), "tcp "+c.podIP("blue/a")+":9999 1000"))
	})
	seen := readTraffic(t, load)
	// Datagrams are printed, not judged: pods came and went on the same switch,
	// and it is one thread that does that and forwards here.
	t.Logf("%+v", seen)
	if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent || seen.Refused != 0 {
		t.Errorf("traffic suffered: %+v", seen)
	}
}

// wantRegistered waits until the registry has, or has not, a pod of that name.
func (c *cluster) wantRegistered(t *testing.T, name string, want bool) {
	t.Helper()
	c.eventually(t, fmt.Sprintf("pod %s registered: %t", name, want), func() bool {
		for line := range strings.Lines(c.ctl("get", "pods")) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[1] == name {
				return want
			}
		}
		return !want
	})
}

func TestOneReplicaOfEachServiceIsEnough(t *testing.T) {
	c := up(t, replicated)
	for _, process := range [][]string{{"nats", "nats-1"}, {"ipam", "ipam-1"}, {"tenancy", "tenancy-1"}, {"servicelb", "servicelb-1"}} {
		c.run(append([]string{"lab", "kill", "--name", c.name}, process...)...)
	}
	c.start(inPod("blue/a"), "serve", port, "blue/a")
	wantNone(t, c.check(inPod("red/client"), "tcp "+c.podIP("blue/a")+":"+port+" 10"))
	c.ctl("pod-network", "join-projects", "--to", "red", "blue")
	wantAll(t, inPod("red/client"), c.check(inPod("red/client"), "tcp "+c.podIP("blue/a")+":"+port+" 1000"))
	c.ctl("service", "create", "blue/web", "--port", "80:"+port)
	c.ctl("create", "netnamespace", "green")
	c.run("lab", "pod", "add", "--name", c.name, "green/a", "--node", "node1")
	wantNone(t, c.check(inPod("green/a"), "tcp "+c.podIP("blue/a")+":"+port+" 10"))
}

func wantNone(t *testing.T, results []checkResult) {
	t.Helper()
	for _, r := range results {
		if r.OK {
			t.Errorf("%s: it was answered", r.Check)
		}
	}
}
