package kubescale

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

// agentNode is the number of the node whose agent there is. The others are only told of.
const agentNode = 1

// agent is a node's agent with a switch and a network namespace of its own.
type agent struct {
	*proctest.Process
	bridge *ovstest.Switch
}

// startAgent starts the agent of one of the large cluster's nodes, whose Node is there.
func (s *system) startAgent() *agent {
	s.Helper()
	ns := netnstest.New(s.B, "node")
	ip := fmt.Sprintf("192.168.0.%d", agentNode)
	ns.Run(s.B, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "nobody")
	ns.Run(s.B, "ip", "link", "set", "nobody", "up")
	ns.Run(s.B, "ip", "address", "add", ip+"/16", "dev", "eth0")
	ns.Run(s.B, "ip", "link", "set", "eth0", "up")
	a := &agent{bridge: ovstest.Start(s.B, ovstest.Options{Namespace: ns, Datapath: ovstest.Netdev})}
	gate := s.cluster.NewGate(s.B)
	kubeconfig := gate.Kubeconfig(s.B, s.cluster.As(s.B, "damask-nodeagent", "system:masters"))
	bus := strings.TrimPrefix(s.store.URL(), "tls://")
	for _, address := range []string{s.address["ipam"], s.address["tenancy"], s.address["servicelb"], s.address["egress"], bus, gate.Address()} {
		s.leadTo(ns, address)
	}
	dir, files := s.TempDir(), s.ca.Files(s.B, identity.Node(nodeName(agentNode)))
	config := fmt.Sprintf(`
node: %s
hostIP: %s
nodeUID: "%032x"
datapath: netdev
listen: 127.0.0.1:9445
metrics: 127.0.0.1:9545
tls: {certificate: %q, key: %q, ca: %q, trustDomain: %q}
log: {level: warn}
ipam: {servers: [%q]}
tenancy: {servers: [%q]}
servicelb: {servers: [%q]}
egress: {servers: [%q]}
nats: {servers: [%q]}
ovs: {database: "unix:%s", runDir: %q}
cniSocket: %q
stateDir: %q
kubernetes: {enabled: true, kubeconfig: %q}
takeover: {socket: %q, runtimeCache: %q}
`, nodeName(agentNode), ip, agentNode, files.Certificate, files.Key, files.CA, files.TrustDomain,
		s.address["ipam"], s.address["tenancy"], s.address["servicelb"], s.address["egress"], s.store.URL(),
		a.bridge.DBSocket(), a.bridge.Dir(), a.bridge.Dir()+"/cni.sock", dir, kubeconfig, dir+"/none.sock", dir)
	path := filepath.Join(dir, "nodeagent.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		s.Fatal(err)
	}
	program, err := filepath.Abs("../../bin/damask-nodeagent")
	if err != nil {
		s.Fatal(err)
	}
	log := &strings.Builder{}
	cmd := ns.Command(program, "-config", path)
	cmd.Stdout, cmd.Stderr = log, log
	a.Process = proctest.Start(s.B, cmd)
	s.Cleanup(func() {
		a.Stop()
		if s.Failed() {
			s.Logf("the agent logged:\n%s", log)
		}
	})
	return a
}

// leadTo has an address of the machine's loopback lead there from a namespace's.
func (s *system) leadTo(ns *netnstest.Namespace, address string) {
	s.Helper()
	var listener net.Listener
	var err error
	ns.Do(s.B, func() { listener, err = net.Listen("tcp4", address) })
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // It is closed.
			}
			go pass(client, address)
		}
	}()
}

// pass connects a client with an address until one of them ends it.
func pass(client net.Conn, address string) {
	defer func() { _ = client.Close() }()
	var dialer net.Dialer
	server, err := dialer.DialContext(context.Background(), "tcp4", address)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
	_ = server.Close()
}

// programmed tells whether the switch leads to that many nodes, and the kernel to that many
// endpoints.
func (a *agent) programmed(s *system, nodes, endpoints int) bool {
	s.Helper()
	flows, err := a.bridge.Command("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br0", "table=90").Output()
	if err != nil || strings.Count(string(flows), "->tun_dst") < nodes {
		return false // The first thing that an agent does is to make the bridge.
	}
	rules, err := a.bridge.Namespace().Command("iptables-save", "-t", "nat").Output()
	if err != nil {
		s.Fatal(fmt.Errorf("read the rules of services: %w", err))
	}
	return strings.Count(string(rules), "--to-destination ") >= endpoints
}

// awaitAgent waits until the agent has programmed the large cluster.
func (s *system) awaitAgent(a *agent) {
	s.Helper()
	for end := time.Now().Add(limit); !a.programmed(s, manyNodes-1, manyPods); time.Sleep(time.Second) {
		select {
		case <-a.Done():
			s.Fatalf("the agent ended: %v", a.Err())
		default:
		}
		if time.Now().After(end) {
			s.Fatal("the agent did not program the cluster")
		}
	}
}
